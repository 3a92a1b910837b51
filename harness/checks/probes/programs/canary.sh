# fill KEY BYTES: hold KEY and random letters in a variable.  digest: SHA-256 of them now.
held=
echo ready
while IFS=" " read -r what key size; do
    case $what in
    fill)
        held=$key$(head -c "$size" /dev/urandom | base64 | tr -d '\n')
        if [ "${#held}" -gt "$size" ]; then echo ok; else echo "error: no head, base64 or tr"; fi
        ;;
    digest) printf %s "$held" | sha256sum 2>&1 ;;
    esac
done
