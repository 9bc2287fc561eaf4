// Writes containerd's default seccomp profile for the capabilities that are named, such as
// CAP_NET_ADMIN, as it is in the configuration of an OCI runtime.
package main

import (
	"encoding/json"
	"os"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func main() {
	held := &specs.LinuxCapabilities{Bounding: os.Args[1:]}
	profile := seccomp.DefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: held}})
	if err := json.NewEncoder(os.Stdout).Encode(profile); err != nil {
		panic(err)
	}
}
