# Compare $committed, which is release/$file, with $built. Run by busybox sh; $seed is its folder.
if ! "$seed/bin/busybox" diff -u "$committed" "$built"; then
	echo "release/$file (-) is not what this source builds (+)." >&2
	echo "If this was meant to change: $renew, review the difference, commit it." >&2
	exit 1
fi
"$seed/bin/busybox" touch "$out"
