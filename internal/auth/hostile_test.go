package auth_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/peald/peald/internal/auth"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func segment(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// sign signs claims unchanged, even invalid ones.
func sign(tb testing.TB, method jwt.SigningMethod, key any, header map[string]any, claims string) string {
	tb.Helper()
	h := map[string]any{"typ": "JWT", "alg": method.Alg()}
	maps.Copy(h, header)
	encoded, err := json.Marshal(h)
	if err != nil {
		tb.Fatal(err)
	}
	text := segment(string(encoded)) + "." + segment(claims)
	signature, err := method.Sign(text, key)
	if err != nil {
		tb.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func TestHostileTokens(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}

	now := time.Now().Unix()
	const user = "mallory-7f3a"
	const whole = `{"sub":"` + user + `","iss":"shop","aud":"browsers"}`

	hs256 := func(claims string) string {
		return sign(t, jwt.SigningMethodHS256, []byte(secret), nil, claims)
	}

	with := func(more string) string {
		return hs256(strings.TrimSuffix(whole, "}") + "," + more + "}")
	}
	good := hs256(whole)
	dot := strings.LastIndexByte(good, '.')

	for name, c := range map[string]struct {
		token string
		want  auth.Reason
	}{
		"empty":                      {"", auth.Malformed},
		"not a token":                {"let-me-in", auth.Malformed},
		"dots only":                  {"..", auth.Malformed},
		"two parts":                  {good[:dot], auth.Malformed},
		"four parts":                 {good + ".x", auth.Malformed},
		"with Bearer":                {"Bearer " + good, auth.Malformed},
		"line break at the end":      {good + "\n", auth.Malformed},
		"line break inside":          {good[:9] + "\r\n" + good[9:], auth.Malformed},
		"padding":                    {good + "=", auth.Malformed},
		"header not JSON":            {segment("{") + good[strings.IndexByte(good, '.'):], auth.Malformed},
		"header is null":             {segment("null") + good[strings.IndexByte(good, '.'):], auth.Malformed},
		"one megabyte":               {strings.Repeat("A", 1<<20), auth.TooLong},
		"one megabyte, well formed":  {with(`"pad":"` + strings.Repeat("x", 1<<20) + `"`), auth.TooLong},
		"just over the limit":        {good + strings.Repeat("A", auth.MaxToken+1-len(good)), auth.TooLong},
		"alg none":                   {sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, whole), auth.Algorithm},
		"alg nOnE":                   {segment(`{"alg":"nOnE"}`) + "." + segment(whole) + ".", auth.Algorithm},
		"alg missing":                {segment(`{"typ":"JWT"}`) + "." + segment(whole) + "." + good[dot+1:], auth.Algorithm},
		"alg a number":               {segment(`{"alg":256}`) + "." + segment(whole) + "." + good[dot+1:], auth.Algorithm},
		"alg HS512 with the key":     {sign(t, jwt.SigningMethodHS512, []byte(secret), nil, whole), auth.Algorithm},
		"alg RS256":                  {sign(t, jwt.SigningMethodRS256, rsaKey, nil, whole), auth.Algorithm},
		"HS256 without signature":    {segment(`{"alg":"HS256"}`) + "." + segment(whole) + ".", auth.Signature},
		"another key":                {sign(t, jwt.SigningMethodHS256, []byte(strings.Repeat("k", 32)), nil, whole), auth.Signature},
		"empty key":                  {sign(t, jwt.SigningMethodHS256, []byte{}, nil, whole), auth.Signature},
		"claims replaced":            {good[:strings.IndexByte(good, '.')+1] + segment(`{"sub":"root"}`) + good[dot:], auth.Signature},
		"critical extension":         {sign(t, jwt.SigningMethodHS256, []byte(secret), map[string]any{"crit": []string{"b64"}, "b64": false}, whole), auth.Extension},
		"expired":                    {with(`"exp":` + itoa(now-60)), auth.Expired},
		"expired in 1970":            {with(`"exp":0`), auth.Expired},
		"expired, signed by another": {sign(t, jwt.SigningMethodHS256, []byte(strings.Repeat("k", 32)), nil, `{"exp":1}`), auth.Signature},
		"exp null":                   {with(`"exp":null`), auth.Malformed},
		"exp a string":               {with(`"exp":"9999999999"`), auth.Malformed},
		"exp out of range":           {with(`"exp":1e300`), auth.Malformed},
		"exp negative":               {with(`"exp":-1`), auth.Malformed},
		"not yet valid":              {with(`"nbf":` + itoa(now+60)), auth.NotYetValid},
		"nbf an object":              {with(`"nbf":{}`), auth.Malformed},
		"claims not JSON":            {hs256(`{"sub":`), auth.Malformed},
		"claims are a list":          {hs256(`["alice"]`), auth.Malformed},
		"claims are null":            {hs256(`null`), auth.Subject},
		"trailing data in claims":    {hs256(whole + whole), auth.Malformed},
		"sub twice":                  {hs256(`{"sub":"alice","sub":"root","iss":"shop","aud":"browsers"}`), auth.Malformed},
		"exp twice":                  {with(`"exp":1,"exp":9999999999`), auth.Malformed},
		"sub twice, once escaped":    {hs256(`{"sub":"alice","s\u0075b":"root","iss":"shop","aud":"browsers"}`), auth.Malformed},
		"key id a list":              {sign(t, jwt.SigningMethodHS256, []byte(secret), map[string]any{"kid": []string{"a"}}, whole), auth.Malformed},
		"key in the header":          {sign(t, jwt.SigningMethodRS256, rsaKey, map[string]any{"jwk": map[string]any{"kty": "RSA"}}, whole), auth.Algorithm},
		"sub missing":                {hs256(`{"iss":"shop","aud":"browsers"}`), auth.Subject},
		"sub in capitals":            {hs256(`{"Sub":"root","iss":"shop","aud":"browsers"}`), auth.Malformed},
		"sub empty":                  {hs256(`{"sub":"","iss":"shop","aud":"browsers"}`), auth.Subject},
		"sub null":                   {hs256(`{"sub":null,"iss":"shop","aud":"browsers"}`), auth.Subject},
		"sub a number":               {hs256(`{"sub":7,"iss":"shop","aud":"browsers"}`), auth.Malformed},
		"sub with a line break":      {hs256(`{"sub":"a\nb","iss":"shop","aud":"browsers"}`), auth.Subject},
		"sub with NUL":               {hs256(`{"sub":"a\u0000","iss":"shop","aud":"browsers"}`), auth.Subject},
		"sub with DEL":               {hs256("{\"sub\":\"a\x7f\",\"iss\":\"shop\",\"aud\":\"browsers\"}"), auth.Subject},
		"sub with a C1 control":      {hs256(`{"sub":"a\u0085b","iss":"shop","aud":"browsers"}`), auth.Subject},
		"sub too long":               {hs256(`{"sub":"` + strings.Repeat("é", 128) + `","iss":"shop","aud":"browsers"}`), auth.Subject},
		"sub not UTF-8":              {hs256("{\"sub\":\"a\xff\",\"iss\":\"shop\",\"aud\":\"browsers\"}"), auth.Malformed},
		"iss missing":                {hs256(`{"sub":"alice","aud":"browsers"}`), auth.Issuer},
		"iss another":                {hs256(`{"sub":"alice","iss":"shop2","aud":"browsers"}`), auth.Issuer},
		"aud missing":                {hs256(`{"sub":"alice","iss":"shop"}`), auth.Audience},
		"aud another":                {hs256(`{"sub":"alice","iss":"shop","aud":["a","b"]}`), auth.Audience},
		"aud a number":               {hs256(`{"sub":"alice","iss":"shop","aud":7}`), auth.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			id, err := newTokens(t, auth.Config{Issuer: "shop", Audience: "browsers"}).Verify(c.token)
			rejected, ok := errors.AsType[*auth.RejectedError](err)
			if !ok {
				t.Fatalf("Verify = %+v, %v", id, err)
			}
			if rejected.Reason != c.want {
				t.Errorf("rejected as %s, want %s", rejected.Reason, c.want)
			}
			if !reflect.DeepEqual(id, auth.Identity{}) {
				t.Errorf("an identity with an error: %+v", id)
			}
			if text := err.Error(); strings.Contains(text, user) || len(text) > 200 || text == "the token is not accepted" {
				t.Errorf("error text %q", text)
			}
		})
	}
}

func TestClaimOfWrongType(t *testing.T) {
	for claims, want := range map[string]string{
		`{"sub":"alice","topics":"orders"}`:        `the token's "topics" must be a list of strings`,
		`{"sub":"alice","topics":["orders",7]}`:    `the token's "topics" must be a list of strings`,
		`{"sub":"alice","topics":{"orders":true}}`: `the token's "topics" must be a list of strings`,
		`{"sub":7}`:                    `the token's "sub" must be a string`,
		`{"sub":"alice","aud":7}`:      `the token's "aud" must be a string or a list of strings`,
		`{"sub":"alice","exp":"soon"}`: `the token's "exp" must be a number of seconds since 1970, up to the year 9999`,
		`{"sub":"alice","nbf":1e300}`:  `the token's "nbf" must be a number of seconds since 1970, up to the year 9999`,
		`["alice"]`:                    "the token is not a well-formed JSON Web Token",
	} {
		_, err := newTokens(t, auth.Config{}).Verify(sign(t, jwt.SigningMethodHS256, []byte(secret), nil, claims))
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", claims, err, want)
		}
	}
}

// TestMissingAudience configures only an audience, so that the missing claim can't
// be the issuer.
func TestMissingAudience(t *testing.T) {
	_, err := newTokens(t, auth.Config{Audience: "browsers"}).Verify(sign(t, jwt.SigningMethodHS256, []byte(secret), nil, `{"sub":"alice"}`))
	if rejected, ok := errors.AsType[*auth.RejectedError](err); !ok || rejected.Reason != auth.Audience {
		t.Errorf("Verify: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	tokens := newTokens(f, auth.Config{})
	f.Add(`{"alg":"HS256"}`, `{"sub":"alice"}`)
	f.Add(`{"alg":"HS256"}`, `{"sub":"alice","exp":1e3,"aud":["x",1]}`)
	f.Add(`null`, `null`)
	f.Add(`{"alg":"HS256"}`, `null`)

	f.Fuzz(func(t *testing.T, header, claims string) {
		text := segment(header) + "." + segment(claims)
		signature, err := jwt.SigningMethodHS256.Sign(text, []byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		id, err := tokens.Verify(text + "." + base64.RawURLEncoding.EncodeToString(signature))
		if (err == nil) == (id.User == "") {
			t.Errorf("Verify = %+v, %v", id, err)
		}
	})
}
