# What watches where there is no python3. An answer ends with a line that is a dot.
# fill KEY PAGES: hold pages made from KEY in a variable.  digest: SHA-256 of them now.
# life: what lives in the guest, each line after the name of its file in /proc.
# No process is started to fill it, and one for each of the others: that is slow under emulation.
held=
echo ready
while IFS=" " read -r what key pages; do
    case $what in
    fill)
        held='' page=0
        while [ "$page" -lt "$pages" ]; do
            one="$key $page;"
            for double in 1 2 3 4 5 6; do one=$one$one; done
            held=$held$one page=$((page + 1))
        done
        echo ok
        ;;
    digest) printf %s "$held" | sha256sum 2>&1 ;;
    life)
        grep -as '' /proc/uptime /proc/[0-9]*/stat /proc/mounts \
            /proc/net/tcp /proc/net/tcp6 /proc/net/snmp
        ;;
    esac
    echo .
done
