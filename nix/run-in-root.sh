# Enter $root and run $script there. Run by busybox sh; $seed is its folder.
# A private mount namespace lets the root, which is read-only in the store, get the mounts it needs.
if [ "${1-}" != inside ]; then
	"$seed/bin/busybox" unshare -r -m "$seed/bin/busybox" sh -eu "$0" inside && exit 0
	status=$?
	"$seed/bin/busybox" unshare -r -m "$seed/bin/busybox" true 2>/dev/null ||
		echo "this machine gives builds no user namespaces (on Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0)" >&2
	exit "$status"
fi
PATH=$seed/bin
top=${NIX_BUILD_TOP:-$PWD}
busybox mkdir "$top/build" "$top/tmp"
busybox mount --rbind /nix/store "$root/nix/store"
busybox mount --rbind /proc "$root/proc"
busybox mount --rbind /dev "$root/dev"
busybox mount --bind "$top/tmp" "$root/tmp"
busybox mount --bind "$top/build" "$root/build"
export PATH=/usr/bin:/usr/sbin HOME=/build TMPDIR=/tmp
busybox_path=$seed/bin/busybox
unset NIX_BUILD_TOP TMP TEMP TEMPDIR OLDPWD
# shellcheck disable=SC2086  # $shell is a command with its options
exec "$busybox_path" chroot "$root" "$busybox_path" sh -c "cd /build && exec $shell $script"
