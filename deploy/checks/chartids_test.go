package checks_test

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// TestPlatformIDs checks that pods leave their user and group IDs to platforms
// that assign them: OpenShift rejects pods that request fixed ones.
func TestPlatformIDs(t *testing.T) {
	t.Parallel()

	const single, cluster = "existingSecret: s\n", "existingSecret: s\ncluster: {enabled: true}\n"

	for name, test := range map[string]struct {
		values  string
		apis    []string
		isFixed bool
	}{
		"Kubernetes":           {single, nil, true},
		"Kubernetes, cluster":  {cluster, nil, true},
		"by a value":           {single + "platformIDs: true\n", nil, false},
		"by a value, cluster":  {cluster + "platformIDs: true\n", nil, false},
		"OpenShift":            {single, []string{"security.openshift.io/v1"}, false},
		"OpenShift, cluster":   {cluster, []string{"security.openshift.io/v1"}, false},
		"another API":          {single, []string{"route.example.com/v1"}, true},
		"another API, cluster": {cluster, []string{"route.example.com/v1"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			var pods []corev1.PodSpec

			for _, object := range chart(t, test.values, test.apis...) {
				switch object := object.(type) {
				case *appsv1.Deployment:
					pods = append(pods, object.Spec.Template.Spec)
				case *appsv1.StatefulSet:
					pods = append(pods, object.Spec.Template.Spec)
				}
			}

			if len(pods) != 1 {
				t.Fatalf("%d workloads, want 1", len(pods))
			}

			pod := pods[0].SecurityContext
			if fixed := pod.RunAsUser != nil || pod.RunAsGroup != nil || pod.FSGroup != nil; fixed != test.isFixed {
				t.Errorf("the pod has fixed IDs: %t, want %t", fixed, test.isFixed)
			}

			if pod.RunAsNonRoot == nil || !*pod.RunAsNonRoot {
				t.Error("the pod may run as root")
			}

			for _, container := range pods[0].Containers {
				if own := container.SecurityContext; own.RunAsUser != nil || own.RunAsGroup != nil {
					t.Errorf("container %s sets its own IDs", container.Name)
				}
			}
		})
	}
}
