#!/bin/bash
# Builds mesos-master, mesos-agent and mesos-containerizer (Apache Mesos 1.11.0) into a folder.
# usage: build.sh TARGET
# To build: bash, g++, python3 with pip. To run (in the cluster's base image): libsvn1 libapr1 libsasl2-2
# libsasl2-modules libcurl4 zlib1g.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=$(mkdir -p "$1" && cd "$1" && pwd)
mkdir -p "$target"/{download,lib,bin}
python3 "$here/fetch.py" mesos-scheduler mesos.scheduler-1.11.0.linux-x86_64.tar.gz \
  1d376f20bca6d05ee8b90c1c123a452b28753497ccc2f1c80ea3ac94c12e8f6e "$target/download/mesos.tar.gz"
python3 "$here/fetch.py" psycopg2-binary psycopg2_binary-2.7.7-cp36-cp36m-manylinux1_x86_64.whl \
  e63850d8c52ba2b502662bf3c02603175c2397a9acc756090e444ce49508d41e "$target/download/openssl-1.0.2.whl"
# libmesos, under a name that the linker takes.
tar -xzOf "$target/download/mesos.tar.gz" ./usr/local/lib/python2.7/dist-packages/mesos/scheduler/_scheduler.so >"$target/lib/libmesos.so"
# OpenSSL 1.0.2 (and what it needs), which Debian has no longer, as that wheel bundles it.
python3 -m zipfile -e "$target/download/openssl-1.0.2.whl" "$target/download/openssl"
cp "$target"/download/openssl/psycopg2/.libs/* "$target/lib/"
ln -sf libssl-c0c2ede4.so.1.0.2q "$target/lib/libssl.so.1.0.0"
ln -sf libcrypto-c1fa9491.so.1.0.2q "$target/lib/libcrypto.so.1.0.0"
gcc -shared -fPIC -O1 -o "$target/lib/libcurl.so.4" -Wl,-soname,libcurl.so.4 \
  -Wl,--version-script=<(echo 'CURL_OPENSSL_3 { global: curl_*; local: *; };') "$here/curl-shim.c" -ldl
g++ -std=c++14 -O1 -w -rdynamic -o "$target/bin/mesos-node" "$here/mesos-node.cpp" -L"$target/lib" -l:libmesos.so -ldl \
  -Wl,-rpath,'$ORIGIN/../lib' -Wl,--disable-new-dtags -Wl,--allow-shlib-undefined -Wl,-z,lazy
for role in master agent containerizer; do ln -sf mesos-node "$target/bin/mesos-$role"; done
rm -rf "$target/download"
