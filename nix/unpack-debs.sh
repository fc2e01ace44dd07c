# Unpack $debs into $out. Run by busybox sh; $seed is its folder.
PATH=$seed/bin
busybox mkdir -p "$out/usr/bin" "$out/usr/sbin" "$out/usr/lib" "$out/usr/lib64"
for dir in bin sbin lib lib64; do
	busybox ln -s "usr/$dir" "$out/$dir" # merged /usr, as base-files would have it
done
busybox mkdir -p "$out/nix/store" "$out/proc" "$out/sys" "$out/dev" "$out/build" "$out/tmp" "$out/etc"
for deb in $debs; do
	busybox dpkg-deb -x "$deb" "$out"
done
