package credential

import (
	"encoding/hex"
	"errors"
	"math"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/domain"
	"sakipaldies.lv/ledger/eventstore"
	"sakipaldies.lv/ledger/eventstore/storetest"
)

// scanner is what the documentation of tokens promises to secret scanners.
var scanner = regexp.MustCompile(`^paldies_[0-9a-hjkmnp-tv-z]{10}_[0-9a-hjkmnp-tv-z]{52}$`)

func TestAddAndList(t *testing.T) {
	_, nc := newServer(t)
	s := newStore(t, nc)
	if all, err := s.List(t.Context()); err != nil || len(all) != 0 {
		t.Fatalf("before there is a bucket: %v, %v", all, err)
	}
	want := Credential{Role: domain.RoleChannel, Channel: "in_person", Campaign: "kustiba-2018", Note: "Gulbenes klientu centrs", Rate: 2.5, Burst: 10,
		Expires: moment.AddDate(1, 0, 0)}
	token, c, err := s.Add(t.Context(), want)
	must(t, err)
	if !scanner.MatchString(token) || len(token) != TokenChars || token[len("paldies_"):][:10] != c.ID {
		t.Errorf("credential %s has the token %q", c.ID, token)
	}
	want.ID, want.Created = c.ID, moment
	all, err := s.List(t.Context())
	must(t, err)
	if len(all) != 1 || all[0] != want || c != want {
		t.Errorf("%+v was added, and %+v is listed, instead of %+v", c, all, want)
	}
	e, err := openBucket(t, nc).Get(t.Context(), c.ID)
	must(t, err)
	_, secret, _ := parseToken(token)
	if value := string(e.Value()); strings.Contains(value, secret) || !strings.Contains(value, hashOf(secret)) {
		t.Errorf("stored is %s", value)
	}
	other, _ := add(t, s, Credential{Role: domain.RoleChannel, Channel: "web"})
	if other == token {
		t.Error("two credentials have one token")
	}
}

func hashOf(secret string) string {
	h := hashSecret(secret)
	return hex.EncodeToString(h[:])
}

func TestBucketIsKept(t *testing.T) {
	cluster := storetest.NewCluster(t)
	nc := cluster.Servers[0].Connect(t)
	s, err := NewStore(nc, len(cluster.Servers), time.Now)
	must(t, err)
	token, id := add(t, s, Credential{Role: domain.RoleChannel, Channel: "web"})
	status, err := openBucket(t, nc).Status(t.Context())
	must(t, err)
	c := status.(*jetstream.KeyValueBucketStatus).StreamInfo().Config
	if c.Storage != jetstream.FileStorage || c.Replicas != 3 || c.MaxAge != 0 || c.MaxMsgsPerSubject != bucketHistory {
		t.Errorf("the bucket is %+v", c)
	}
	r := newReader(t, cluster.Servers[1].Connect(t))
	r.says(t, token, nil)
	_, _, err = s.Revoke(t.Context(), id)
	must(t, err)
	r.says(t, token, ErrRevoked)
	if _, err := s.Check(t.Context(), token); !errors.Is(err, ErrRevoked) {
		t.Errorf("the leader says %v", err)
	}
}

func TestInvalid(t *testing.T) {
	_, nc := newServer(t)
	s := newStore(t, nc)
	for name, c := range map[string]Credential{
		"no channel":            {},
		"a channel in capitals": {Role: domain.RoleChannel, Channel: "WEB"},
		"no role":               {Channel: "web"},
		"an unknown role":       {Role: "ministrs"},
		"an auditor's channel":  {Role: domain.RoleAuditor, Channel: "web"},
		"a nameless place":      {Role: domain.RoleInstitution},
		"a place of two lines":  {Role: domain.RoleInstitution, Institution: "a\nb"},
		"a channel's place":     {Role: domain.RoleChannel, Channel: "web", Institution: "Ceļu satiksmes drošības direkcija"},
		"a ministry's place":    {Role: domain.RoleChancellery, Institution: "Ceļu satiksmes drošības direkcija"},
		"one that has expired":  {Role: domain.RoleAuditor, Expires: moment},
		"a campaign with a dot": {Role: domain.RoleChannel, Channel: "web", Campaign: "a.b"},
		"a long note":           {Role: domain.RoleChannel, Channel: "web", Note: strings.Repeat("ē", MaxNoteBytes/2+1)},
		"a note of two lines":   {Role: domain.RoleChannel, Channel: "web", Note: "a\nb"},
		"a note in Latin-1":     {Role: domain.RoleChannel, Channel: "web", Note: "\xe8"},
		"a negative rate":       {Role: domain.RoleChannel, Channel: "web", Rate: -1},
		"no number":             {Role: domain.RoleChannel, Channel: "web", Rate: math.NaN()},
		"an endless rate":       {Role: domain.RoleChannel, Channel: "web", Rate: math.Inf(1)},
		"a negative burst":      {Role: domain.RoleChannel, Channel: "web", Rate: 1, Burst: -1},
		"a huge burst":          {Role: domain.RoleChannel, Channel: "web", Rate: 1, Burst: MaxBurst + 1},
		"a burst of no rate":    {Role: domain.RoleChannel, Channel: "web", Burst: 1},
	} {
		if _, _, err := s.Add(t.Context(), c); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	longest := Credential{Role: domain.RoleChannel, Channel: strings.Repeat("a", 32), Campaign: strings.Repeat("b", 63),
		Note: strings.Repeat("\U0001F642", MaxNoteBytes/4), Rate: MaxRate / 3, Burst: MaxBurst}
	add(t, s, longest)
}

// TestTooMany fills the bucket with what cannot be told from credentials.
func TestTooMany(t *testing.T) {
	server := storetest.NewServer(t, withoutSync)
	nc := server.Connect(t)
	s := newStore(t, nc)
	add(t, s, Credential{Role: domain.RoleChannel, Channel: "web"})
	js, err := jetstream.New(nc)
	must(t, err)
	value, err := encodeRecord(&Credential{Role: domain.RoleChannel, Channel: "web", Created: moment, Revoked: moment}, hash{})
	must(t, err)
	for range maxCredentials - 1 {
		_, err := js.PublishAsync("$KV."+bucketName+"."+newID(), value)
		must(t, err)
	}
	<-js.PublishAsyncComplete()
	if _, _, err := s.Add(t.Context(), Credential{Role: domain.RoleChannel, Channel: "web"}); !errors.Is(err, ErrTooMany) {
		t.Errorf("one more: %v", err)
	}
}

func TestRevoke(t *testing.T) {
	_, nc := newServer(t)
	s := newStore(t, nc)
	token, id := add(t, s, Credential{Role: domain.RoleChannel, Channel: "web", Note: "vietne"})
	c, again, err := s.Revoke(t.Context(), id)
	if err != nil || again || c.Revoked != moment || c.Note != "vietne" {
		t.Errorf("revoked: %+v, %v, %v", c, again, err)
	}
	s.now = func() time.Time { return moment.Add(time.Hour) }
	c, again, err = s.Revoke(t.Context(), id)
	if err != nil || !again || c.Revoked != moment {
		t.Errorf("revoked again: %+v, %v, %v", c, again, err)
	}
	all, err := s.List(t.Context())
	if err != nil || len(all) != 1 || all[0].Revoked != moment {
		t.Errorf("listed are %+v, %v", all, err)
	}
	if _, _, err := s.Revoke(t.Context(), strings.Repeat("0", idChars)); !errors.Is(err, ErrUnknown) {
		t.Errorf("revoke what is not there: %v", err)
	}
	_, secret, _ := parseToken(token)
	for _, wrong := range []string{"", ">", id + "x", strings.ToUpper(id), token, secret, "a.b.c.d.e."} {
		_, _, err := s.Revoke(t.Context(), wrong)
		if !errors.Is(err, ErrUnknown) || strings.Contains(err.Error(), secret) {
			t.Errorf("revoke %q: %v", wrong, err)
		}
	}
}

// TestRevokeAtOnce: however many revoke, one of them does it.
func TestRevokeAtOnce(t *testing.T) {
	_, nc := newServer(t)
	s := newStore(t, nc)
	_, id := add(t, s, Credential{Role: domain.RoleChannel, Channel: "web"})
	const rivals = 8
	did := make([]bool, rivals)
	var all sync.WaitGroup
	begin := make(chan struct{})
	for i := range rivals {
		all.Go(func() {
			<-begin
			_, again, err := s.Revoke(t.Context(), id)
			if err != nil {
				t.Error(err)
			}
			did[i] = !again
		})
	}
	close(begin)
	all.Wait()
	doers := 0
	for _, d := range did {
		if d {
			doers++
		}
	}
	if doers != 1 {
		t.Errorf("%d of %d revoked it", doers, rivals)
	}
}

// TestListWithCorrupt: an entry that cannot be read hides no other.
func TestListWithCorrupt(t *testing.T) {
	_, nc := newServer(t)
	s := newStore(t, nc)
	_, good := add(t, s, Credential{Role: domain.RoleChannel, Channel: "web"})
	_, bad := add(t, s, Credential{Role: domain.RoleChannel, Channel: "web"})
	_, err := openBucket(t, nc).PutString(t.Context(), bad, "{}")
	must(t, err)
	all, err := s.List(t.Context())
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), bad) {
		t.Errorf("the error is %v", err)
	}
	if len(all) != 1 || all[0].ID != good {
		t.Errorf("listed are %+v", all)
	}
	if _, _, err := s.Revoke(t.Context(), bad); !errors.Is(err, ErrCorrupt) {
		t.Errorf("revoke it: %v", err)
	}
	add(t, s, Credential{Role: domain.RoleChannel, Channel: "web"})
}

func TestStoreCheck(t *testing.T) {
	server, nc := newServer(t)
	s := newStore(t, nc)
	token, id := add(t, s, Credential{Role: domain.RoleChannel, Channel: "web"})
	other, _ := add(t, s, Credential{Role: domain.RoleChannel, Channel: "mobile"})
	_, secret, _ := parseToken(other)
	for name, is := range map[string]struct {
		token string
		want  error
	}{
		"right":              {token, nil},
		"none":               {"", ErrMissing},
		"no token":           {"Bearer " + token, ErrMalformed},
		"another's secret":   {formatToken(id, secret), ErrUnknown},
		"nobody's id":        {formatToken(newID(), secret), ErrUnknown},
		"nobody's id at all": {formatToken(newID(), newSecret()), ErrUnknown},
	} {
		if c, err := s.Check(t.Context(), is.token); !errors.Is(err, is.want) || err == nil && c.Channel != "web" {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	server.Stop()
	if _, err := s.Check(t.Context(), token); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("without a server: %v", err)
	}
	server.Start(t)
}
