# fill KEY PAGES: hold pages made from KEY in a variable.  digest: SHA-256 of them now.
# No process is started to fill it, and one to tell: that is slow under emulation.
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
    esac
done
