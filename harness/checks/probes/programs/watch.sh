# What watches where there is no python3, and no clock agent in sh that would: asks what looks.sh, which
# comes before this, can look at. An answer ends with a line that is a dot.
echo ready
while IFS=" " read -r what more; do
    look_at "$what" $more </dev/null
    echo .
done
