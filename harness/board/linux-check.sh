# Tests of the program `linux` inside of Linux, as root on QEMU's machine `virt`. `check free`: the
# kernel leaves the SMMU alone. `check driven`: it drives it. Each line begins with `ok` or `not ok`.
base=0x9050000
cr0=0x9050020
gbpa=0x9050044
device=/sys/bus/pci/devices/0000:00:01.0
pages=/sys/kernel/mm/hugepages/hugepages-32768kB/nr_hugepages
failed=0

result() {
    # The name, whether it is right, and what was seen.
    if [ "$2" = yes ]; then
        echo "ok $1"
    else
        echo "not ok $1: $3"
        failed=1
    fi
}

# ends NAME STATUS TEXT ARGUMENT...: the program ends with the status, and says the text.
ends() {
    name=$1 status=$2 text=$3
    shift 3
    said=$(/bin/program "$@" 2>&1 < /dev/null)
    got=$?
    case $said in
        *"$text"*) right=yes ;;
        *) right=no ;;
    esac
    [ $got = "$status" ] || right=no
    result "$name" $right "status $got, said: $said"
}

registers() {
    echo "$(busybox devmem $cr0 32) $(busybox devmem $gbpa 32) $(busybox xxd -s 4 -l 2 -p $device/config) $(busybox cat $device/enable)"
}

# as_before NAME: registers and devices are as they were.
as_before() {
    now=$(registers)
    [ "$now" = "$before" ] && right=yes || right=no
    result "as before after $1" $right "$now, before $before"
}

is_on() {
    case $(busybox devmem $cr0 32) in
        *[13579BDF]) return 0 ;;
        *) return 1 ;;
    esac
}

# Starts the program with translation on, and waits until it is. $first and $second are its processes.
start() {
    /bin/program --own $base --rehearse wait "$@" < /dev/null > /tmp/said 2>&1 &
    first=$!
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        busybox grep -q 'translation is on' /tmp/said && is_on && break
        busybox sleep 0.2
    done
    second=$(busybox pidof program | busybox tr ' ' '\n' | busybox grep -v "^$first\$")
    is_on && right=yes || right=no
    result "translation is on" $right "$(busybox cat /tmp/said)"
}

driven() {
    ends "a driven SMMU is refused" 3 \
        "the kernel drives the SMMU at $base: driver arm-smmu-v3, device 9050000.smmuv3" --own $base
    ends "a driven SMMU is in the plan" 2 "refused: the kernel drives the SMMU"
    # What the refusal says: the driver cannot be unbound.
    driver=/sys/bus/platform/drivers/arm-smmu-v3
    [ -d $driver ] && [ ! -e $driver/unbind ] && right=yes || right=no
    result "the driver cannot be unbound" $right "$(busybox ls $driver)"
}

free() {
    echo 0 > $pages
    ends "no confirmation" 2 "nothing was done: say which SMMU you own"
    ends "the plan names the address" 2 "with --own $base, this program would"
    ends "a wrong address" 3 "no firmware table names an SMMU at 0x9060000; those named are at: $base" \
        --own 0x9060000
    ends "an address that is none" 2 "--own needs an address" --own 9050000
    ends "an unknown argument" 2 'unknown argument "--yes"' --yes
    ends "a missing table" 3 "/no/such/file: ENOENT" --dtb /no/such/file --own $base
    ends "a damaged table" 3 "device tree: " --dtb /bin/busybox --own $base
    ends "no huge page" 3 "no huge page of 33554432 bytes or more is free" --own $base
    # No register was touched.
    before=$(registers)
    [ "${before%% *}" = 0x00000000 ] && right=yes || right=no
    result "refusals change nothing" $right "$before"

    echo 1 > $pages
    ends "a panic" 101 "!! panic: a rehearsal at" --own $base --rehearse panic
    as_before "a panic"
    ends "a fault" 139 "!! killed by signal 11" --own $base --rehearse fault
    as_before "a fault"
    said=$(echo quit | /bin/program --own $base 2>&1)
    result "a run that the host ends" "$([ $? = 0 ] && echo yes)" "$said"
    as_before "success"
    ends "a closed line" 0 "is as before" --own $base
    as_before "a closed line"
    for signal in HUP INT QUIT TERM; do
        start
        busybox kill -$signal "$first"
        wait "$first"
        got=$?
        # A shell without job control lets its children ignore INT and QUIT, but this one waits for them.
        [ $got -gt 128 ] && right=yes || right=no
        result "SIG$signal" $right "status $got: $(busybox cat /tmp/said)"
        as_before "SIG$signal"
    done
    start
    busybox kill -KILL "$second"
    wait "$first"
    [ $? = 137 ] && right=yes || right=no
    result "SIGKILL of the second process" $right "$(busybox cat /tmp/said)"
    as_before "SIGKILL of the second process"
    start
    busybox kill -KILL "$first"
    wait "$first"
    busybox sleep 0.5
    as_before "SIGKILL of the first process"
    start
    # Stopped first: otherwise the second sees the end of the first, and restores.
    busybox kill -STOP "$first" "$second"
    busybox kill -KILL "$first" "$second"
    wait "$first"
    busybox sleep 0.5
    is_on && right=yes || right=no
    result "SIGKILL of both leaves translation on" $right "$(registers)"
    ends "an SMMU that translates is refused" 3 "the SMMU translates already (CR0=" --own $base
    ends "an SMMU that translates is taken" 101 "is as before" --own $base --turn-off --rehearse panic
    # Nothing has turned the device off after the kill, so only the SMMU counts.
    now=$(registers)
    case $now in "0x00000000 0x00001000 "*) right=yes ;; *) right=no ;; esac
    result "an SMMU that was taken is off" $right "$now"

    busybox mv /dev/mem /dev/mem-away
    ends "no /dev/mem" 3 "/dev/mem at $base: ENOENT" --own $base
    busybox mv /dev/mem-away /dev/mem
}

export PATH=/bin
busybox() { /bin/busybox "$@"; }
"$1"
exit $failed
