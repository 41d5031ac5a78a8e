package checks_test

import (
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func TestClusterChart(t *testing.T) {
	objects := chart(t, cluster)

	want := []string{
		"ConfigMap/peald", "PodDisruptionBudget/peald", "Service/peald", "Service/peald-control", "Service/peald-peers", "StatefulSet/peald",
	}
	if got := slices.Sorted(maps.Keys(objects)); !slices.Equal(got, want) {
		t.Errorf("rendered %q, want %q", got, want)
	}

	checkObjects(t, objects)
	checkNodes(t, objects)

	if replicas := objects["StatefulSet/peald"].(*appsv1.StatefulSet).Spec.Replicas; replicas == nil || *replicas != 3 {
		t.Errorf("%v replicas, want 3", replicas)
	}

	// Without a secret, pods must fail to start instead of accepting any peer.
	out, err := effectiveConfig(t, built(t), []string{"PEALD_CONTROL_TOKENS=shop:0123456789abcdef0123"}, daemonConfig(t, objects, &struct{}{}))
	if err == nil || !strings.Contains(out, "cluster.secret") {
		t.Errorf("without PEALD_CLUSTER_SECRET: %v\n%s", err, out)
	}
}

func TestClusterChartWithEverything(t *testing.T) {
	objects := chart(t, everything+`
cluster:
  enabled: true
  nodes: 5
  storage: {size: 20Gi, className: fast}
  tlsSecret: nodes
  autoscaling: {enabled: true, maxNodes: 12, streams: 2000000}
`)

	checkObjects(t, objects)
	checkNodes(t, objects)

	set := objects["StatefulSet/peald"].(*appsv1.StatefulSet)
	if set.Spec.Replicas != nil {
		t.Errorf("replicas is %d, want none because an autoscaler sets it", *set.Spec.Replicas)
	}

	if claim := set.Spec.VolumeClaimTemplates[0].Spec; *claim.StorageClassName != "fast" || claim.Resources.Requests.Storage().String() != "20Gi" {
		t.Errorf("the volume claim is %v, want 20Gi of fast", claim)
	}

	scaler := objects["HorizontalPodAutoscaler/peald"].(*autoscalingv2.HorizontalPodAutoscaler).Spec
	if scaler.ScaleTargetRef.Kind != "StatefulSet" || scaler.ScaleTargetRef.Name != set.Name || *scaler.MinReplicas != 5 || scaler.MaxReplicas != 12 {
		t.Errorf("the autoscaler is %+v", scaler)
	}

	metric := scaler.Metrics[0].Pods
	if _, ok := scrape(t)[metric.Metric.Name]; !ok || metric.Target.AverageValue.Value() != 2_000_000 {
		t.Errorf("the autoscaler's metric is %+v", metric)
	}

	if policy := scaler.Behavior.ScaleDown.SelectPolicy; policy == nil || *policy != autoscalingv2.DisabledPolicySelect {
		t.Errorf("the autoscaler may scale down: %v", policy)
	}

	for _, ingress := range objects["NetworkPolicy/peald"].(*networkingv1.NetworkPolicy).Spec.Ingress {
		if ingress.Ports[0].Port.StrVal != "peers" {
			continue
		}

		from := ingress.From
		if len(from) != 1 || from[0].NamespaceSelector != nil || !maps.Equal(from[0].PodSelector.MatchLabels, set.Spec.Selector.MatchLabels) {
			t.Errorf("%v may connect to the peers port, want only the nodes' pods", from)
		}
	}
}

// TestChartWithExternalNATS renders nodes that use an external NATS cluster. They
// are stateless and therefore run as a Deployment.
func TestChartWithExternalNATS(t *testing.T) {
	objects := chart(t, secretValues+`
replicas: 4
config: {cluster: {mode: nats}}
`)

	if replicas := objects["Deployment/peald"].(*appsv1.Deployment).Spec.Replicas; *replicas != 4 {
		t.Errorf("%d replicas, want 4", *replicas)
	}

	variables := []string{"PEALD_CONTROL_TOKENS=shop:0123456789abcdef0123", "PEALD_CLUSTER_URL=nats://nats:4222"}
	if out, err := effectiveConfig(t, built(t), variables, daemonConfig(t, objects, &struct{}{})); err != nil {
		t.Errorf("peald config: %v\n%s", err, out)
	}
}

// checkNodes checks that the nodes can find each other and that each keeps its
// log on its own volume.
func checkNodes(t *testing.T, objects map[string]runtime.Object) {
	t.Helper()

	set := objects["StatefulSet/peald"].(*appsv1.StatefulSet)
	if set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement {
		t.Error("pods are started one by one: the first one can't become ready without a quorum")
	}

	var file struct {
		Cluster struct {
			Mode, Addr, Dir string
			Peers           []string
			TLS             struct {
				Cert string `json:"cert_file"`
				Key  string `json:"key_file"`
				CA   string `json:"ca_file"`
			}
		}
	}

	daemonConfig(t, objects, &file)

	name, port, err := net.SplitHostPort(file.Cluster.Peers[0])
	if err != nil || file.Cluster.Mode != "embedded" || file.Cluster.Addr != ":"+port {
		t.Fatalf("%v: the nodes' configuration is %+v", err, file.Cluster)
	}

	// checkObjects has checked that the pods have that port.
	peers := objects["Service/"+name].(*corev1.Service)
	if peers.Spec.ClusterIP != corev1.ClusterIPNone || !peers.Spec.PublishNotReadyAddresses || peers.Name != set.Spec.ServiceName {
		t.Errorf("%s doesn't resolve to all nodes: %+v", name, peers.Spec)
	}

	pod := set.Spec.Template.Spec
	mounted := make(map[string]string)

	for _, mount := range pod.Containers[0].VolumeMounts {
		mounted[mount.MountPath] = mount.Name
	}

	if claim := set.Spec.VolumeClaimTemplates[0]; mounted[file.Cluster.Dir] != claim.Name {
		t.Errorf("cluster.dir %s is not on the volume; mounts are %v", file.Cluster.Dir, mounted)
	}

	for _, path := range []string{file.Cluster.TLS.Cert, file.Cluster.TLS.Key, file.Cluster.TLS.CA} {
		if folder, _, _ := strings.Cut(strings.TrimPrefix(path, "/etc/"), "/"); path != "" && mounted["/etc/"+folder] != "cluster-tls" {
			t.Errorf("%s is not mounted; mounts are %v", path, mounted)
		}
	}

	for _, spread := range pod.TopologySpreadConstraints {
		if spread.TopologyKey == corev1.LabelHostname && !maps.Equal(spread.LabelSelector.MatchLabels, set.Spec.Selector.MatchLabels) {
			t.Errorf("the topology spread constraint selects %v, want the nodes' pods", spread.LabelSelector)
		}
	}

	if len(pod.TopologySpreadConstraints) == 0 {
		t.Error("all nodes may be scheduled on one machine")
	}

	if most := objects["PodDisruptionBudget/peald"].(*policyv1.PodDisruptionBudget).Spec.MaxUnavailable; most.IntValue() != 1 {
		t.Errorf("%s nodes may be evicted at a time, want 1", most.String())
	}
}
