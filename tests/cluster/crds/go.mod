// Modules of which only files are used: the definitions of their resources. Nothing is compiled,
// so `go mod tidy` would leave nothing; `go mod download` with their names writes go.sum.
module weir.dev/tests/cluster/crds

go 1.26.0

require (
	istio.io/api v1.32.0
	sigs.k8s.io/gateway-api v1.6.1
)
