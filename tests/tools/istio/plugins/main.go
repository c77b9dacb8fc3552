// Writes what Istio 1.31's own control plane generates from a manifest of examples/istio, on its standard input, for the sidecar of
// inventory-service: which listeners have which plugin, the plugins as resources (ECDS), and the provider's cluster.
//
//	PILOT_ENABLE_METADATA_EXCHANGE=false PILOT_ENABLE_ALPN_FILTER=false go run ./plugins generated.json < trafficextension.yaml
//
// tests/data/istio/generated.json is the output. No test runs this program: it takes minutes to build.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/test/xds"
)

const services = `
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: inventory, namespace: shop }
spec:
  hosts: [inventory-service.shop.svc.cluster.local]
  addresses: [10.96.0.9]
  ports: [{ number: 80, name: http, protocol: HTTP, targetPort: 8080 }]
  resolution: STATIC
  location: MESH_INTERNAL
  endpoints: [{ address: 10.0.0.9, labels: { app: inventory-service } }]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: payment, namespace: shop }
spec:
  hosts: [payment-service.shop.svc.cluster.local]
  addresses: [10.96.0.10]
  ports: [{ number: 80, name: http, protocol: HTTP, targetPort: 8080 }]
  resolution: STATIC
  location: MESH_INTERNAL
  endpoints: [{ address: 10.0.0.10, labels: { app: payment-service } }]
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

func show(m proto.Message) any {
	b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		panic(err)
	}
	var v any
	_ = json.Unmarshal(b, &v)
	return v
}

func main() {
	resources, _ := io.ReadAll(os.Stdin)
	dir, _ := os.MkdirTemp("", "istio")
	defer os.RemoveAll(dir)
	server := xds.NewFakeDiscoveryServer(&scratch{dir}, xds.FakeOptions{ConfigString: string(resources) + services})
	labels := map[string]string{"app": "inventory-service"}
	proxy := server.SetupProxy(&model.Proxy{
		Type: model.SidecarProxy, IPAddresses: []string{"10.0.0.9"}, ID: "inventory.shop", ConfigNamespace: "shop",
		DNSDomain: "shop.svc.cluster.local", Labels: labels,
		Metadata: &model.NodeMetadata{Namespace: "shop", Labels: labels, IstioVersion: "1.31.0"},
	})
	out := map[string]any{}
	listeners, found := map[string][]string{}, map[string]bool{}
	reference := regexp.MustCompile(`"name":"(extensions.istio.io/[^"]*shop\.([^"~]*)[^"]*)"`)
	for _, l := range server.Listeners(proxy) {
		text, _ := json.Marshal(show(l))
		for _, match := range reference.FindAllStringSubmatch(string(text), -1) {
			found[match[1]] = true
			if !slices.Contains(listeners[l.Name], match[2]) {
				listeners[l.Name] = append(listeners[l.Name], match[2])
			}
		}
	}
	out["listeners"] = listeners
	names := slices.Sorted(maps.Keys(found))
	var plugins []any
	for _, e := range server.ConfigGen.BuildExtensionConfiguration(proxy, server.PushContext(), names, nil) {
		plugin := show(e).(map[string]any)
		vm := plugin["typed_config"].(map[string]any)["config"].(map[string]any)["vm_config"].(map[string]any)
		// The time of this run.
		delete(vm["environment_variables"].(map[string]any), "key_values")
		plugins = append(plugins, plugin)
	}
	out["plugins"] = plugins
	for _, c := range server.Clusters(proxy) {
		if c.Name == "outbound|80||keycloak.example.com" {
			out["cluster"] = show(c)
		}
	}
	b, _ := json.MarshalIndent(out, "", "  ")
	if err := os.WriteFile(os.Args[1], append(b, '\n'), 0o644); err != nil {
		panic(err)
	}
}
