# look_at WHAT ...: what is looked at in a guest that has no python3.
# mark LINE: write a line to the kernel log.  log: the boot id, then that log; ends as dmesg does.
# fill KEY PAGES: hold pages made from KEY in a variable.  digest: SHA-256 of them now.
# life: what lives in the guest, each line after the name of its file in /proc. Not the kernel's own
# threads, most of what runs in a small guest: children of 2, in no group and no session, with no
# terminal. That is more than fits into a process's name.
# No process is started for the first and to fill, and one for each of the others: that is slow
# under emulation.
held=
look_at() {
    case $1 in
    mark) shift && echo "$*" >/dev/kmsg ;;
    log) IFS= read -r id </proc/sys/kernel/random/boot_id && echo "$id" && dmesg ;;
    fill)
        held='' page=0
        while [ "$page" -lt "$3" ]; do
            one="$2 $page;"
            for double in 1 2 3 4 5 6; do one=$one$one; done
            held=$held$one page=$((page + 1))
        done
        ;;
    digest) printf %s "$held" | sha256sum 2>&1 ;;
    life)
        grep -asv ') [A-Z] 2 0 0 0 -1 [0-9]' /proc/uptime /proc/[0-9]*/stat /proc/mounts \
            /proc/net/tcp /proc/net/tcp6 /proc/net/snmp
        ;;
    esac
}
