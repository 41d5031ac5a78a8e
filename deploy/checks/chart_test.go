package checks_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

const secretValues = "existingSecret: peald-secrets\n"

// everything enables every option that is off by default.
const everything = secretValues + `
config:
  sse:
    allowed_origins: [https://app.example.com]
    trusted_proxies: [10.0.0.0/8]
  drain:
    timeout: 1h
  control:
    guard_metrics: true
  topics:
    - pattern: prices.internal.>
      history: {max_events: 1000000}
      anonymous: false
    - pattern: prices.>
      history: {max_events: 1, max_age: 1h}
      slow_consumer: conflate
      anonymous: true
image: {tag: v1.2.3}
imagePullSecrets: [{name: registry}]
serviceMonitor: {enabled: true, labels: {release: prometheus}, token: {secret: metrics}}
networkPolicy:
  enabled: true
  sseFrom: [{namespaceSelector: {matchLabels: {name: ingress}}}]
  controlFrom: [{podSelector: {matchLabels: {app: shop}}}]
service: {sse: {type: LoadBalancer, annotations: {a: b}}}
podAnnotations: {a: b}
podLabels: {c: d}
nodeSelector: {e: f}
tolerations: [{key: g, operator: Exists}]
affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}
topologySpreadConstraints: [{maxSkew: 1, topologyKey: h, whenUnsatisfiable: ScheduleAnyway}]
priorityClassName: high
`

// cluster enables clustering.
const cluster = secretValues + "cluster: {enabled: true}\n"

func TestChartDefaults(t *testing.T) {
	objects := chart(t, secretValues)

	want := []string{"ConfigMap/peald", "Deployment/peald", "PodDisruptionBudget/peald", "Service/peald", "Service/peald-control"}
	if got := slices.Sorted(maps.Keys(objects)); !slices.Equal(got, want) {
		t.Errorf("rendered %q, want %q", got, want)
	}

	checkObjects(t, objects)
}

func TestChartWithEverything(t *testing.T) {
	objects := chart(t, everything)

	monitor := objects["ServiceMonitor/peald"].(*monitoringv1.ServiceMonitor)
	if credentials := monitor.Spec.Endpoints[0].Authorization.Credentials; credentials.Name != "metrics" || credentials.Key != "token" {
		t.Errorf("the ServiceMonitor's credentials are %v, want the key token of the secret metrics", credentials)
	}

	checkObjects(t, objects)

	text := daemonConfig(t, objects, &struct{}{})

	out, err := effectiveConfig(t, built(t), []string{"PEALD_CONTROL_TOKENS=shop:0123456789abcdef0123"}, text)
	want := `
topics:
  - pattern: prices.internal.>
    history: {max_events: 1000000}
    anonymous: false
  - pattern: prices.>
    history: {max_events: 1, max_age: 1h0m0s}
    slow_consumer: conflate
    anonymous: true
`
	if err != nil || !strings.Contains(out, want) {
		t.Errorf("peald config prints (%v)\n%swant\n%s", err, out, want)
	}

	for n, ingress := range objects["NetworkPolicy/peald"].(*networkingv1.NetworkPolicy).Spec.Ingress {
		if len(ingress.From) != 1 {
			t.Errorf("rule %d of the network policy admits %v, want one peer", n, ingress.From)
		}
	}
}

func TestChartRejectsInvalidValues(t *testing.T) {
	for values, want := range map[string]string{
		"":                            "existingSecret is required",
		secretValues + "replica: 1":   "replica",
		secretValues + "replicas: 2":  "share no streams",
		secretValues + "replicas: -1": "replicas",
		secretValues + "cluster: {enabled: true, nodes: 2}":                                          "nodes",
		secretValues + "config: {cluster: {mode: embedded}}":                                         "cluster.enabled",
		secretValues + "serviceMonitor: {enabled: true}\nconfig: {control: {guard_metrics: true}}\n": "serviceMonitor.token.secret",
		secretValues + "drainSeconds: x":                                                             "drainSeconds",
	} {
		if _, err := renderChart(t, values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("values %q: %v, want an error that contains %q", values, err, want)
		}
	}
}

// checkObjects checks that the rendered objects are consistent with each other
// and with the daemon.
func checkObjects(t *testing.T, objects map[string]runtime.Object) {
	t.Helper()

	template, selector := pods(t, objects)
	container := template.Spec.Containers[0]

	ports := map[string]int32{}
	for _, port := range container.Ports {
		ports[port.Name] = port.ContainerPort
	}

	checkSelector := func(what string, selector map[string]string) {
		if len(selector) == 0 || !labels.SelectorFromSet(selector).Matches(labels.Set(template.Labels)) {
			t.Errorf("%s selects %v; pods are labeled %v", what, selector, template.Labels)
		}
	}
	checkPort := func(what string, port intstr.IntOrString) {
		if _, ok := ports[port.StrVal]; !ok {
			t.Errorf("%s refers to port %s; the pods' ports are %v", what, port.String(), ports)
		}
	}

	checkSelector("the workload", selector.MatchLabels)

	for name, object := range objects {
		switch o := object.(type) {
		case *corev1.Service:
			checkSelector(name, o.Spec.Selector)

			for _, port := range o.Spec.Ports {
				checkPort(name, port.TargetPort)
			}
		case *policyv1.PodDisruptionBudget:
			checkSelector(name, o.Spec.Selector.MatchLabels)
		case *networkingv1.NetworkPolicy:
			checkSelector(name, o.Spec.PodSelector.MatchLabels)

			for _, ingress := range o.Spec.Ingress {
				for _, port := range ingress.Ports {
					checkPort(name, *port.Port)
				}
			}
		}
	}

	for path, probe := range map[string]*corev1.Probe{
		"/readyz": container.ReadinessProbe, "/healthz": container.LivenessProbe,
	} {
		if probe.HTTPGet.Path != path || probe.HTTPGet.Port.StrVal != "rest" {
			t.Errorf("a probe requests %s on port %s, want %s on rest", probe.HTTPGet.Path, probe.HTTPGet.Port.String(), path)
		}
	}

	var file struct {
		Drain struct{ Timeout metav1.Duration }
	}

	text := daemonConfig(t, objects, &file)

	sleep := container.Lifecycle.PreStop.Sleep.Seconds
	if grace := *template.Spec.TerminationGracePeriodSeconds; float64(grace) <= float64(sleep)+file.Drain.Timeout.Seconds() {
		t.Errorf("the grace period is %d s, want more than the preStop sleep of %d s plus the drain timeout of %s", grace, sleep, file.Drain.Timeout.Duration)
	}

	variables := []string{"PEALD_CONTROL_TOKENS=shop:0123456789abcdef0123"}
	if _, ok := ports["peers"]; ok {
		variables = append(variables, "PEALD_CLUSTER_SECRET=0123456789abcdef")
	}

	if out, err := effectiveConfig(t, built(t), variables, text); err != nil {
		t.Errorf("peald config: %v\n%s", err, out)
	}
}

// pods returns the pod template and the selector of the workload.
func pods(t *testing.T, objects map[string]runtime.Object) (corev1.PodTemplateSpec, *metav1.LabelSelector) {
	t.Helper()

	switch o := objects["Deployment/peald"].(type) {
	case *appsv1.Deployment:
		if _, ok := objects["StatefulSet/peald"]; ok {
			t.Error("the chart renders both a Deployment and a StatefulSet")
		}

		return o.Spec.Template, o.Spec.Selector
	default:
		set := objects["StatefulSet/peald"].(*appsv1.StatefulSet)

		return set.Spec.Template, set.Spec.Selector
	}
}

// daemonConfig decodes the daemon's configuration file into a struct and returns
// its text.
func daemonConfig(t *testing.T, objects map[string]runtime.Object, into any) string {
	t.Helper()

	text := objects["ConfigMap/peald"].(*corev1.ConfigMap).Data["peald.yaml"]
	if err := yaml.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("invalid peald.yaml: %v\n%s", err, text)
	}

	return text
}

// chart renders the chart with values and returns its objects, decoded as
// Kubernetes does, by "Kind/name". Unknown and duplicate fields fail the test.
func chart(t *testing.T, values string, apis ...string) map[string]runtime.Object {
	t.Helper()

	known := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, autoscalingv2.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme, monitoringv1.AddToScheme,
	} {
		if err := add(known); err != nil {
			t.Fatal(err)
		}
	}

	decoder := serializer.NewCodecFactory(known, serializer.EnableStrict).UniversalDeserializer()

	manifests, err := renderChart(t, values, apis...)
	if err != nil {
		t.Fatal(err)
	}

	objects := map[string]runtime.Object{}

	for file, content := range manifests {
		for manifest := range strings.SplitSeq(content, "\n---\n") {
			if strings.TrimSpace(manifest) == "" {
				continue
			}

			object, kind, err := decoder.Decode([]byte(manifest), nil, nil)
			if err != nil {
				t.Fatalf("%s: %v\n%s", file, err, manifest)
			}

			objects[kind.Kind+"/"+object.(metav1.Object).GetName()] = object
		}
	}

	return objects
}

// renderChart renders the chart with Helm and returns the manifests by file. The
// Kubernetes cluster offers the given APIs in addition to the default ones.
func renderChart(t *testing.T, values string, apis ...string) (map[string]string, error) {
	t.Helper()

	loaded, err := loader.Load("../helm/peald")
	if err != nil {
		t.Fatal(err)
	}

	given, err := chartutil.ReadValues([]byte(values))
	if err != nil {
		t.Fatal(err)
	}

	release := chartutil.ReleaseOptions{Name: "peald", Namespace: "events", IsInstall: true}

	capabilities := chartutil.DefaultCapabilities.Copy()
	capabilities.APIVersions = append(capabilities.APIVersions, apis...)

	all, err := chartutil.ToRenderValues(loaded, given, release, capabilities)
	if err != nil {
		return nil, err
	}

	return engine.Engine{Strict: true}.Render(loaded, all)
}
