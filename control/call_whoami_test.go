package control_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func TestWhoAmI(t *testing.T) {
	all := []string{"publish", "read", "data", "tokens", "admin"}
	open := start(t, control.Config{}, &fakeBroker{}, nil)
	reply, err := open.WhoAmI(t.Context(), &pealv1.WhoAmIRequest{})
	if err != nil || reply.GetName() != "" || strings.Join(reply.GetScopes(), " ") != strings.Join(all, " ") {
		t.Errorf("%v, %v", reply, err)
	}

	p := start(t, control.Config{Tokens: []control.Token{
		{Name: "ops", Token: "the operator's token"},
		{Name: "shop", Token: "the shop's token", Scopes: []string{"publish"}},
	}}, &fakeBroker{}, nil)
	for token, want := range map[string]string{
		"the operator's token": `{"name":"ops","scopes":["publish","read","data","tokens","admin"]}`,
		"the shop's token":     `{"name":"shop","scopes":["publish"]}`,
	} {
		if got := p.do(t, http.MethodGet, "/v1/whoami", "", "Authorization", "Bearer "+token); strings.TrimSpace(got.body) != want {
			t.Errorf("token %q: response %s", token, got.body)
		}
	}
	if got := p.do(t, http.MethodGet, "/v1/whoami", "", "Authorization", "Bearer guessed"); got.StatusCode != http.StatusUnauthorized {
		t.Errorf("guessed token: status %s", got.Status)
	}
}
