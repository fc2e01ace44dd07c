# Part of init in images with NVIDIA's driver: where its firmware is, and the device nodes of the GPUs
# that it has found, for group gpu (211). By itself it has a set-id program make them for everybody.
printf %s /opt/driver/firmware >/sys/module/firmware_class/parameters/path ||
	die "the kernel does not take the folder of the GPU's firmware"

node() { # NAME MAJOR MINOR
	# shellcheck disable=SC2015  # either may fail
	mknod -m 0660 "/dev/$1" c "$2" "$3" && chown 0:211 "/dev/$1" || die "device node $1 cannot be made"
}
major() { # NAME: its number in the list of drivers
	sed -n "s/^ *\([0-9]*\) $1\$/\1/p" /proc/devices
}

if [ -d /proc/driver/nvidia/gpus ]; then
	minor=0
	for _ in /proc/driver/nvidia/gpus/*; do
		node "nvidia$minor" 195 "$minor"
		minor=$((minor + 1))
	done
	node nvidiactl 195 255
	uvm=$(major nvidia-uvm)
	node nvidia-uvm "$uvm" 0
	node nvidia-uvm-tools "$uvm" 1
fi
