# What kind of guest this is: what the script in harness/guest/facts.py prints, from /proc.
import os

lines = []


def tell(key, path):
    try:
        with open(path, errors="replace") as file:
            value = file.readline().rstrip("\n")
    except OSError:
        return
    if value:
        lines.append(key + "=" + value)


def names(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []


tell("boot_id", "/proc/sys/kernel/random/boot_id")
tell("kernel", "/proc/sys/kernel/osrelease")
tell("clocksource", "/sys/devices/system/clocksource/clocksource0/current_clocksource")
lines.append("uid=%d" % os.geteuid())
for name in ("python3", "perl"):
    if any(os.access(os.path.join(path, name), os.X_OK) for path in os.get_exec_path()):
        lines.append("has=" + name)
if os.environ.get("OS"):
    lines.append("windows=" + os.environ["OS"])
if not os.access("/proc/1/stat", os.R_OK):
    lines.append("sees=own")
for name in names("/proc"):
    if name.isdigit():
        tell("runs", "/proc/" + name + "/comm")
for path in ("/sys/class/dmi/id/product_uuid", "/proc/device-tree/vm,uuid"):
    tell("machine", path)
for name in names("/sys/class/net"):
    device = "/sys/class/net/" + name
    if os.path.exists(device + "/device"):
        tell("mac", device + "/address")
        tell("mac", device + "/bonding_slave/perm_hwaddr")
lines.append("ssh=" + os.environ.get("SSH_CONNECTION", ""))
said = "\n".join(lines)
