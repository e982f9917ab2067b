# The floor of any cluster creation: a bare kube-apiserver of the same node
# image on a fresh etcd, from process start to /readyz. Prints milliseconds.
# The engine, the container and the certificates are not part of it.
set -euo pipefail
image=$1 port=17999
trap 'podman rm -f -t 0 -v rk-floor >/dev/null' EXIT
podman run -d --name rk-floor --pids-limit=0 --tmpfs /var/lib/etcd --publish 127.0.0.1:$port:6443 \
	--entrypoint /bin/sh "$image" -c 'exec sleep 600' >/dev/null
podman exec rk-floor sh -c '
	printf "%s\n" "apiVersion: kubeadm.k8s.io/v1beta4" "kind: InitConfiguration" \
		"localAPIEndpoint: {advertiseAddress: 192.0.2.1}" --- "apiVersion: kubeadm.k8s.io/v1beta4" "kind: ClusterConfiguration" \
		"encryptionAlgorithm: ECDSA-P256" "kubernetesVersion: $(kubelet --version | cut -d" " -f2)" >/tmp/kubeadm.yaml
	kubeadm init phase certs all --config /tmp/kubeadm.yaml >/dev/null
	for name in etcd kube-apiserver; do
		ln -s "$(find /usr/lib/rk/containerd/ -path "*/fs/*" -type f -name $name | head -n 1)" /tmp/$name
	done'
start=$(date +%s%3N)
podman exec -d rk-floor >/dev/null sh -c '
	pki=/etc/kubernetes/pki
	/tmp/etcd --data-dir /var/lib/etcd --unsafe-no-fsync --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
		>/tmp/etcd.log 2>&1 &
	exec /tmp/kube-apiserver --etcd-servers=http://127.0.0.1:2379 --authorization-mode=Node,RBAC \
		--client-ca-file=$pki/ca.crt --tls-cert-file=$pki/apiserver.crt --tls-private-key-file=$pki/apiserver.key \
		--service-account-issuer=https://kubernetes.default.svc --service-account-key-file=$pki/sa.pub \
		--service-account-signing-key-file=$pki/sa.key --service-cluster-ip-range=10.96.0.0/16 >/tmp/kube-apiserver.log 2>&1'
for _ in $(seq 1000); do
	if [ "$(curl -sk --max-time 1 https://127.0.0.1:$port/readyz || true)" = ok ]; then
		echo $(($(date +%s%3N) - start))
		exit 0
	fi
	sleep 0.02
done
podman exec rk-floor tail -n 20 /tmp/kube-apiserver.log >&2
exit 1
