# r ID: "ID KIND UPTIME READING".  d SECONDS: set the clock to that whole second, "ok" or "failed".
# READING is what adjtimex prints (busybox), or seconds.nanoseconds (GNU date), or whole seconds.
case $(date +%N 2>/dev/null) in
*[!0-9]* | "") if adjtimex >/dev/null 2>&1; then kind=adjtimex; else kind=seconds; fi ;;
*) kind=date ;;
esac
while IFS=" " read -r what value; do
    case $what in
    r)
        IFS=" " read -r uptime idle </proc/uptime
        case $kind in
        adjtimex) reading=$(adjtimex) ;;
        date) reading=$(date +%s.%N) ;;
        seconds) reading=$(date +%s) ;;
        esac
        echo "$value" "$kind" "$uptime" $reading
        ;;
    d) if date -u -s "@$value" >/dev/null 2>&1; then echo ok; else echo failed; fi ;;
    esac
done
