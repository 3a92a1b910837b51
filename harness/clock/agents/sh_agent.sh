# Questions and answers are described in __init__.py beside this file; look_at, which comes before
# this, is in guest/in_sh/looks.sh. No process is started to read the clock where the shell tells it
# itself (bash, busybox): "N epoch REAL MONO REAL UPTIME", with
# REAL in microseconds and MONO "-" where /proc/timer_list may not be read; nor where that may be
# (root): "N timer MONO AHEAD MONO UPTIME", with AHEAD = CLOCK_REALTIME - CLOCK_MONOTONIC; it
# changes with each step, and only then. All of that list is much to read for a shell: byte by byte.
# Else "N KIND UPTIME READING": what busybox adjtimex or GNU date print, or whole seconds.
# Steps are by GNU date ("s"), or to a whole second ("d"); slews by busybox adjtimex ("t").
export LC_ALL=C
look() { # the head of the list, and the offset of its second clock
    mono='' ahead='' seen=''
    while read -r a b c d; do
        case $a$b in
        nowat) mono=$c ;;
        clock1:) seen=1 ;;
        .offset:*) [ -z "$seen" ] || { ahead=$b && break; } ;;
        esac
    done </proc/timer_list
} 2>/dev/null
glance() { # only the head
    { read -r a && read -r a && read -r a b mono c; } </proc/timer_list
} 2>/dev/null
if [ -n "$BASH_VERSION" ]; then
    # bash reads ahead and seeks back, which makes the kernel write the list anew: read it in one go.
    look() {
        IFS= read -r -d '' a </proc/timer_list
        mono=${a#*now at } ahead=${a#*clock 1:}
        mono=${mono%% *} ahead=${ahead#*.offset: }
        ahead=${ahead%% nsecs*}
        ahead=${ahead##* }
    } 2>/dev/null
    glance() {
        IFS= read -r -N 100 a </proc/timer_list
        mono=${a#*now at }
        mono=${mono%% *}
    } 2>/dev/null
fi
failed() { # in one line
    set -f
    echo "$number failed" $said
    set +f
}
[ -r /proc/timer_list ] || glance() { mono=-; }
can='' kind=seconds
now=$EPOCHREALTIME # a variable that is merely called so stays as it is
IFS=" " read -r uptime idle </proc/uptime
glance
case $now in
"$EPOCHREALTIME") ;;
*[0-9].[0-9][0-9][0-9][0-9][0-9][0-9]) kind=epoch ;;
esac
tick=$(adjtimex 2>/dev/null) || tick=''
if [ "$kind" = seconds ]; then
    case $(date +%N 2>/dev/null) in
    *[!0-9]* | "") [ -z "$tick" ] || kind=adjtimex ;;
    *) kind=date ;;
    esac
fi
case $kind in
epoch | date) if date -u -d '-1.5 seconds' +%s >/dev/null 2>&1; then can=step; fi ;;
esac
if [ -n "$tick" ] && sleep 0.001 2>/dev/null; then can="$can slew"; fi
tell() { # nanoseconds of a clock
    if [ "$kind" = epoch ]; then
        now=$EPOCHREALTIME
        now=${now%.*}${now#*.}000
    else
        glance
        now=$mono
    fi
}
latency=0
measure() { # of starting date and waiting for its end, the least: a busy guest takes longer at times
    case $can$kind in step* | *adjtimex | *date | *seconds) return ;; esac
    for try in 1 2 3; do
        tell
        before=$now
        date -u -d @0 >/dev/null 2>&1
        tell
        took=$((now - before))
        if [ "$latency" = 0 ] || [ "$took" -lt "$latency" ]; then latency=$took; fi
    done
}
if [ "$kind" != epoch ] && [ -r /proc/timer_list ]; then
    look
    first=$ahead
    look # twice the same, or this shell cannot read such a file
    if [ -n "$ahead" ] && [ "$first" = "$ahead" ]; then
        kind=timer
    fi
fi
while IFS=" " read -r what number value more; do
    case $what in
    r)
        case $kind in
        epoch)
            before=$EPOCHREALTIME
            glance
            IFS=" " read -r uptime idle </proc/uptime
            echo "$number epoch $before $mono $EPOCHREALTIME $uptime"
            continue
            ;;
        timer)
            look
            before=$mono
            IFS=" " read -r uptime idle </proc/uptime
            glance
            echo "$number timer $before $ahead $mono $uptime"
            continue
            ;;
        esac
        IFS=" " read -r uptime idle </proc/uptime
        case $kind in
        adjtimex) reading=$(adjtimex) ;;
        date) reading=$(date +%s.%N) ;;
        seconds) reading=$(date +%s) ;;
        esac
        echo "$number" "$kind" "$uptime" $reading
        ;;
    h)
        measure
        echo "$number hello $can rtc date looks latency=$latency"
        ;;
    l) # each line that is printed by itself is a packet of its own
        case $more in
        mark* | fill*)
            look_at $more 2>/dev/null
            echo "$number lines
$value $?"
            ;;
        *)
            echo "$number lines"
            look_at $more </dev/null 2>/dev/null
            echo "$value $?"
            ;;
        esac
        ;;
    d) if said=$(date -u -s "@$value" 2>&1); then echo "$number ok"; else failed; fi ;;
    s)
        sign='' size=$value
        case $value in -*) sign=- size=${value#-} ;; esac
        by=$(printf '%s%d.%09d' "$sign" $((size / 1000000000)) $((size % 1000000000)))
        if said=$(date -u -s "$by seconds" 2>&1); then echo "$number ok"; else failed; fi
        ;;
    t) # parts per million, nanoseconds; a microsecond a tick is 100 ppm
        old=$(adjtimex)
        old=${old##*tick:}
        old=${old%% us*}
        trap '' HUP INT TERM # never leave it running fast
        if said=$(adjtimex -q -t $((old + value / 100)) 2>&1); then
            rest=$((1000000000 + more % 1000000000))
            sleep $((more / 1000000000)).${rest#1}
            adjtimex -q -t $((old)) && echo "$number ok" || echo "$number failed to end the slew"
        else
            failed
        fi
        trap - HUP INT TERM
        ;;
    a) # by a change that changes nothing; else by what a program that is started here may do
        if [ -n "$tick" ]; then
            old=$(adjtimex)
            old=${old##*tick:}
            old=${old%% us*}
            if said=$(adjtimex -q -t $((old)) 2>&1); then echo "$number ok"; else failed; fi
            continue
        fi
        may=$(sed -n 's/^CapEff:[^0-9a-f]*//p' /proc/self/status 2>/dev/null)
        ids='' # a right in a namespace of its users is none to set the clock
        read -r inside outside ids </proc/self/uid_map
        if [ -z "$may" ]; then
            echo "$number unknown"
        elif [ $((0x$may >> 25 & 1)) = 1 ] && [ "${ids:-4294967295}" = 4294967295 ]; then
            echo "$number ok"
        else
            echo "$number failed Operation not permitted"
        fi
        ;;
    u)
        said=none
        for file in /sys/class/dmi/id/product_uuid /proc/device-tree/vm,uuid; do
            [ -r "$file" ] && said=$(tr -d '\000' <"$file") && break
        done
        echo "$number" ${said:-none}
        ;;
    c)
        since=none
        for file in /sys/class/rtc/rtc*/since_epoch; do
            [ -r "$file" ] && read -r since <"$file" && break
        done
        echo "$number $since"
        ;;
    *) echo "$number what" ;;
    esac
done
