# Part of the initrd of images with NVIDIA's driver: the nodes of the GPUs that it has found, for
# group gpu (211). The driver's own way is a set-id program that any other program may run.
node() { # NAME MAJOR MINOR
  mknod -m 0660 "/dev/$1" c "$2" "$3" && chown 0:211 "/dev/$1" || die "device node $1 cannot be made"
}
major() { # NAME: its number in the list of drivers
  sed -n "s/^ *\([0-9]*\) $1\$/\1/p" /proc/devices
}

if [ -d /proc/driver/nvidia/gpus ]; then
  minor=0
  for gpu in /proc/driver/nvidia/gpus/*; do
    node "nvidia$minor" 195 "$minor"
    minor=$((minor + 1))
  done
  node nvidiactl 195 255
  uvm=$(major nvidia-uvm)
  node nvidia-uvm "$uvm" 0
  node nvidia-uvm-tools "$uvm" 1
fi
