#!/bin/bash
# A computer of its own for programs that print: namespaces, the system's message bus, the daemon of DNS-SD on loopback.
# Its arguments are the command that runs there; CUPSD=1 starts a print system as well, with a queue of cups-pdf.
set -eu
if [ "${COMPUTER:-}" != inside ]; then
  exec env COMPUTER=inside unshare --net --pid --fork --uts --mount --mount-proc --kill-child -- "$0" "$@"
fi
hostname office
ip link set lo up multicast on
ip route add 224.0.0.0/4 dev lo
mount -t tmpfs none /run
mount -t tmpfs none /var/spool
mount -t tmpfs none /var/cache
mkdir -p /run/dbus /run/avahi-daemon /run/cups /var/spool/cups/tmp /var/cache/cups /var/spool/cups-pdf
dbus-daemon --system --fork --nopidfile >/dev/null
printf '[server]\nallow-interfaces=lo\nuse-ipv6=no\n[wide-area]\nenable-wide-area=no\n' >/run/avahi.conf
avahi-daemon -f /run/avahi.conf --no-drop-root --no-chroot --no-rlimits -D >/dev/null
if [ -n "${CUPSD:-}" ]; then
  mkdir /run/etc-cups && cp -a /etc/cups/. /run/etc-cups/ && mount --bind /run/etc-cups /etc/cups
  printf 'LogLevel debug\nListen localhost:631\nListen /run/cups/cups.sock\nBrowsing No\nWebInterface No\n<Location />\nOrder allow,deny\n</Location>\n<Policy default>\n<Limit All>\nOrder deny,allow\n</Limit>\n</Policy>\n' >/etc/cups/cupsd.conf
  mount -t tmpfs none /var/log/cups
  cupsd -f -C /etc/cups/cupsd.conf >/dev/null 2>&1 &
  for _ in $(seq 50); do [ -S /run/cups/cups.sock ] && break || sleep 0.1; done
fi
"$@"
