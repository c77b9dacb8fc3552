// Prints the HTTP connection manager that Istio 1.31's own control plane generates for the inbound port of a sidecar, with the
// RequestAuthentication and AuthorizationPolicy of docs/migrate/istio-requestauthentication.md on its standard input:
//
//	PILOT_ENABLE_METADATA_EXCHANGE=false PILOT_ENABLE_ALPN_FILTER=false PILOT_JWT_ENABLE_REMOTE_JWKS=envoy go run . < resources.yaml
//
// The output is tests/data/migrate/istio.json. The first two settings leave out filters that only Istio's build of Envoy has;
// with the third one Envoy fetches the key set, and not the control plane. No test runs this program: it takes ten minutes to build.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/encoding/protojson"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/test/xds"
)

// The service of the sidecar.
const service = `
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: inventory, namespace: shop }
spec:
  hosts: [inventory-service.shop.svc.cluster.local]
  addresses: [10.96.0.9]
  ports: [{ number: 8080, name: http, protocol: HTTP }]
  resolution: STATIC
  location: MESH_INTERNAL
  endpoints: [{ address: 10.0.0.9, labels: { app: inventory-service } }]
`

type scratch struct{ directory string }

func (f *scratch) Fail()                     { panic("failed") }
func (f *scratch) FailNow()                  { panic("failed") }
func (f *scratch) Fatal(a ...any)            { panic(fmt.Sprint(a...)) }
func (f *scratch) Fatalf(s string, a ...any) { panic(fmt.Sprintf(s, a...)) }
func (f *scratch) Log(a ...any)              { fmt.Fprintln(os.Stderr, a...) }
func (f *scratch) Logf(s string, a ...any)   { fmt.Fprintf(os.Stderr, s+"\n", a...) }
func (f *scratch) TempDir() string           { return f.directory }
func (f *scratch) Helper()                   {}
func (f *scratch) Cleanup(func())            {}
func (f *scratch) Skip(a ...any)             { panic(fmt.Sprint(a...)) }

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func main() {
	// The control plane logs to the standard output.
	output := os.Stdout
	os.Stdout = os.Stderr
	resources := must(io.ReadAll(os.Stdin))
	scratch := &scratch{must(os.MkdirTemp("", "istio"))}
	defer os.RemoveAll(scratch.directory)
	server := xds.NewFakeDiscoveryServer(scratch, xds.FakeOptions{ConfigString: string(resources) + service})
	labels := map[string]string{"app": "inventory-service"}
	proxy := server.SetupProxy(&model.Proxy{
		Type:            model.SidecarProxy,
		IPAddresses:     []string{"10.0.0.9"},
		ID:              "inventory.shop",
		ConfigNamespace: "shop",
		DNSDomain:       "shop.svc.cluster.local",
		Labels:          labels,
		Metadata:        &model.NodeMetadata{Namespace: "shop", Labels: labels, IstioVersion: "1.31.0"},
	})
	for _, listener := range server.Listeners(proxy) {
		for _, chain := range listener.FilterChains {
			match := chain.GetFilterChainMatch()
			if listener.Name != "virtualInbound" || match.GetDestinationPort().GetValue() != 8080 || match.GetTransportProtocol() != "raw_buffer" {
				continue
			}
			filter := chain.Filters[len(chain.Filters)-1]
			text := must(protojson.MarshalOptions{UseProtoNames: true}.Marshal(filter.GetTypedConfig()))
			var manager map[string]any
			if err := json.Unmarshal(text, &manager); err != nil {
				panic(err)
			}
			// Routes are those of the test; the others are no part of authentication.
			for _, name := range []string{"route_config", "tracing", "access_log"} {
				delete(manager, name)
			}
			fmt.Fprintln(output, string(must(json.MarshalIndent(manager, "", "  "))))
		}
	}
}
