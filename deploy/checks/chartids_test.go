package checks_test

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
)

// TestIDsOfThePlatform: OpenShift rejects pods that ask for ids of their own,
// and runs the others under random ones.
func TestIDsOfThePlatform(t *testing.T) {
	t.Parallel()

	for values, isFixed := range map[string]bool{
		"existingSecret: s":                      true,
		"existingSecret: s\nplatformIDs: true\n": false,
	} {
		found := false
		for _, object := range chart(t, values) {
			deployment, ok := object.(*appsv1.Deployment)
			if !ok {
				continue
			}

			found = true
			pod := deployment.Spec.Template.Spec.SecurityContext
			if fixed := pod.RunAsUser != nil || pod.RunAsGroup != nil || pod.FSGroup != nil; fixed != isFixed {
				t.Errorf("of %q the pod has fixed ids: %t", values, fixed)
			}
			if pod.RunAsNonRoot == nil || !*pod.RunAsNonRoot {
				t.Errorf("of %q the pod may run as root", values)
			}
		}
		if !found {
			t.Errorf("of %q no Deployment is made", values)
		}
	}
}
