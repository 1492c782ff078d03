// CoreDNS with the four plugins that a throwaway cluster needs, as its documentation has it ("compile with an
// external main"). The whole of it spends minutes on compiling the clients of three clouds; this shares its
// Kubernetes client, version for version, with the Kubernetes programs that are built beside it.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() {
	dnsserver.Directives = []string{"bind", "errors", "template", "kubernetes"}
	coremain.Run()
}
