# Makes a prepared node as those of immutable distributions are: /etc and /usr cannot be
# written, nothing loads modules by itself, and vfio-pci is not loaded yet. Runs on the
# node at each boot.
set -eu
modprobe -r vfio_pci
for dir in /etc /usr; do
	mount --bind $dir $dir
	mount -o remount,bind,ro $dir
done
mount --bind /dev/null "$(readlink -f "$(command -v modprobe)")"
echo /none >/proc/sys/kernel/modprobe
