# Questions and answers are described in __init__.py beside this file. Debian's perl-base will do.
use Config;
$ENV{LC_ALL} = "C";
my %numbers = (x86_64 => [228, 305], aarch64 => [113, 266], riscv64 => [113, 266],
               s390x => [260, 337], powerpc64le => [246, 347]);
my ($machine) = split /-/, $Config{archname};
die "no numbers of system calls for $Config{archname}\n"
    unless $numbers{$machine} && $Config{ptrsize} == 8 && $Config{ivsize} == 8;
my ($GET, $ADJUST) = @{$numbers{$machine}};
my ($REAL, $MONO, $BOOT) = (0, 1, 7);
$| = 1;

sub now {
    my $t = "\0" x 16;
    syscall($GET, $_[0], $t) == 0 or die "clock_gettime: $!\n";
    my ($s, $ns) = unpack "qq", $t;
    return $s * 1000000000 + $ns;
}
sub adjust {    # modes, seconds, fraction, tick -> tick; struct timex of adjtimex(2)
    my $t = pack "I x4 q4 i x4 q3 q q q x112",
        $_[0], 0, 0, 0, 0, 0, 0, 0, 0, $_[1] || 0, $_[2] || 0, $_[3] || 0;
    syscall($ADJUST, 0, $t) < 0 and die $! + 0, "\n";
    return unpack "x88 q", $t;
}
sub step {      # ADJ_SETOFFSET | ADJ_NANO; the fraction is never negative
    my $ns = $_[0];
    my $fraction = $ns % 1000000000;
    { use integer; adjust(0x2100, ($ns - $fraction) / 1000000000, $fraction); }
}
sub slew {      # ADJ_TICK: a microsecond a tick is 100 ppm
    my ($ppm, $ns) = @_;
    my $old = adjust(0);
    adjust(0x4000, 0, 0, $old + int($ppm / 100));
    select undef, undef, undef, $ns / 1e9;
    adjust(0x4000, 0, 0, $old);
}
sub allowed {   # ADJ_NANO or ADJ_MICRO, as it is: changes nothing, and needs the right to
    my $t = "\0" x 208;
    syscall($ADJUST, 0, $t) < 0 and die $! + 0, "\n";
    adjust(unpack("x40 i", $t) & 0x2000 ? 0x2000 : 0x1000);
}
sub machine {
    for my $path ("/sys/class/dmi/id/product_uuid", "/proc/device-tree/vm,uuid") {
        open my $file, "<", $path or next;
        my $told = <$file>;
        next unless defined $told;
        $told =~ s/[\0\s]+$//;
        return $told ne "" ? $told : "none";
    }
    open my $file, "<:raw", "/sys/firmware/qemu_fw_cfg/by_key/2/raw" or return "none";
    my $raw;    # FW_CFG_UUID
    return read($file, $raw, 16) ? unpack("H*", $raw) : "none";
}
sub ptp {       # the host's clock, handed in by KVM
    for my $number (0 .. 7) {
        open my $file, "<", "/sys/class/ptp/ptp$number/clock_name" or next;
        next unless <$file> =~ /KVM/;
        open my $device, "<", "/dev/ptp$number" or die $! + 0, "\n";
        my $before = now($REAL);
        my $host = now((~fileno($device) << 3) | 3);
        { use integer; step($host - ($before + now($REAL)) / 2 + $_[0]); }
        return;
    }
    die "19\n";
}
sub rtc {
    for my $number (0 .. 3) {
        open my $file, "<", "/sys/class/rtc/rtc$number/since_epoch" or next;
        my $seconds = <$file>;
        next unless defined $seconds;
        chomp $seconds;
        return $seconds;
    }
    return "none";
}

# looks, times REAL went back, by how much at most, jumps of REAL, the last one,
# times MONO went back, longest time between two looks
my ($watching, @marks, $last_real, $last_mono, $ahead) = (0, (0) x 7);
sub forget {
    ($last_real, $last_mono) = (now($REAL), now($MONO));
    $ahead = $last_real - $last_mono;
}
sub look {
    my ($mono, $real, $again) = (now($MONO), now($REAL), now($MONO));
    $marks[0]++;
    if ($real < $last_real) {
        $marks[1]++;
        $marks[2] = $last_real - $real if $last_real - $real > $marks[2];
    }
    my $passed = $mono - $last_mono;
    $marks[5]++ if $passed < 0 or $again < $mono;
    $marks[6] = $passed if $passed > $marks[6];
    if ($again - $mono < 500000) {    # else we were held up in between, and cannot tell
        my $moved = $real - $mono - $ahead;
        if (abs($moved) > 1500000 + ($passed > 0 ? $passed / 10 : 0)) {
            $marks[3]++;
            $marks[4] = $moved;
        }
        $ahead = $real - $mono;
    }
    ($last_real, $last_mono) = ($real, $mono);
}
sub reading {
    my ($m, $b) = (now($MONO), now($BOOT));
    return join " ", @_, now($REAL), $m, $b;
}
sub answer {
    my ($what, $value, $received) = @_;
    return reading($received) if $what eq "r";
    if ($what eq "f") {
        my ($ns, $earliest, $latest) = map { $_ + 0 } split " ", $value;
        # Looked at again right before the step: another may have set the clock since.
        my $now = now($REAL);
        return reading($received)
            unless $earliest <= $received && $received <= $now && $now <= $latest;
        my $said = answer("s", $ns, $received);
        return $said eq "ok" ? "stepped " . reading($received, now($REAL)) : $said;
    }
    return "hello step foreseen slew ptp rtc probe" if $what eq "h";
    return rtc() if $what eq "c";
    return machine() if $what eq "u";
    if ($what eq "w") {
        if ($value eq "1") { $watching = 1; @marks = (0) x 7; forget(); }
        look() if $watching;
        my $shown = join " ", map { int } @marks;
        $watching = 0 if $value eq "0";
        return $shown;
    }
    look() if $watching;
    my %do = (s => \&step, t => \&slew, p => \&ptp, a => \&allowed);
    return "what" unless $do{$what};
    eval { $do{$what}->(map { $_ + 0 } split " ", $value); };
    my $error = $@;
    forget();
    chomp $error;
    return $error eq "" ? "ok" : $error;
}

my $pending = "";
while (1) {
    my $received;
    while (index($pending, "\n") < 0) {
        if ($watching) {
            my $ready = "";
            vec($ready, 0, 1) = 1;
            if (!select $ready, undef, undef, 0.05) { look(); next; }
        }
        my $got = sysread STDIN, $pending, 4096, length $pending;
        $received = now($REAL);
        exit unless $got;
    }
    $received = now($REAL) unless defined $received;
    $pending =~ s/^(.*)\n//;
    my ($what, $number, $value) = split / /, $1, 3;
    syswrite STDOUT, "$number " . answer($what, defined $value ? $value : "", $received) . "\n";
}
