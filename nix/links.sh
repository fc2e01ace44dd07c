# Make $out a folder of links; $links has NAME=TARGET words. Run by busybox sh; $seed is its folder.
"$seed/bin/busybox" mkdir "$out"
for link in $links; do
	"$seed/bin/busybox" ln -s "${link#*=}" "$out/${link%%=*}"
done
