package deploy_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sakipaldies.lv/ledger/cmd/internal/deploy"
	"sakipaldies.lv/ledger/cmd/internal/queue"
	"sakipaldies.lv/ledger/domain"
)

const (
	credentials = "KV_paldies_credentials"
	signed      = "KV_paldies_signed"
)

var (
	ledger   = domain.StreamName(campaign)
	outcomes = queue.OutcomesStream(campaign)
	streams  = []string{ledger, outcomes, queue.SubmissionsStream, queue.PoisonStream, credentials, signed}
	// operators are the users of the ledger's account.
	operators = slices.DeleteFunc(slices.Clone(deploy.Roles), func(r string) bool { return slices.Contains(channels, r) })
	channels  = []string{"web", "mobile", "in_person"}
	// readers must not see who votes, nor who may hand in votes.
	readers = []string{"projector", "signer", "auditor", "closer", "restorer"}
)

// forbidden are the subjects on which a role must not be let publish.
func forbidden(role string) (subjects []string) {
	add := func(list ...string) { subjects = append(subjects, list...) }
	is := func(roles ...string) bool { return slices.Contains(roles, role) }
	for _, stream := range streams {
		api := "$JS.API.STREAM."
		add(api+"DELETE."+stream, api+"RESTORE."+stream, api+"SNAPSHOT."+stream, api+"LEADER.STEPDOWN."+stream, api+"PEER.REMOVE."+stream)
		if stream != queue.PoisonStream || !is("admin") {
			add(api + "MSG.DELETE." + stream)
		}
		if stream != queue.SubmissionsStream || !is("intake") {
			add(api + "PURGE." + stream)
		}
		if !is("closer", "restorer") || stream != ledger && stream != outcomes {
			add(api + "UPDATE." + stream)
		}
		if !is("admin", "restorer") && (!is("intake") || stream != queue.SubmissionsStream && stream != queue.PoisonStream) {
			add(api + "CREATE." + stream)
		}
	}
	if !is("admin", "restorer") {
		add("$JS.API.STREAM.CREATE.CITA")
	}
	if is(readers...) {
		add(reading(queue.SubmissionsStream)...)
		add(reading(queue.PoisonStream)...)
		add(reading(credentials)...)
	}
	if is("dashboard") {
		add(reading(queue.SubmissionsStream)...)
		add(reading(queue.PoisonStream)...)
	}
	if !is("intake") {
		add("$JS.ACK.SUBMISSIONS.intake.1.1.1.1.0", "$JS.API.CONSUMER.RESET.SUBMISSIONS.intake", "$JS.API.CONSUMER.UNPIN.SUBMISSIONS.intake",
			"$JS.API.CONSUMER.MSG.NEXT.SUBMISSIONS.intake", "$JS.API.CONSUMER.CREATE.SUBMISSIONS.intake.submissions.>",
			"outcomes."+campaign+".web.a.b", "poison."+campaign+".web.a")
	}
	if !is("intake", "admin") {
		for _, stream := range streams {
			add(consumers(stream)...)
		}
	}
	if is("intake") {
		add(consumers(ledger)...)
		add(consumers(signed)...)
		add(consumers(credentials)...)
	}
	add("$JS.API.CONSUMER.DELETE.SUBMISSIONS.intake", "$JS.API.CONSUMER.DURABLE.CREATE."+ledger+".cits", "$JS.API.CONSUMER.PAUSE.SUBMISSIONS.intake",
		"$JS.ACK."+outcomes+".channel_web.1.1.1.1.0", "$JS.API.STREAM.PURGE.CITA", "$JS.API.META.LEADER.STEPDOWN", "$JS.API.SERVER.REMOVE", "$JS.API.ACCOUNT.PURGE.PALDIES",
		"$SYS.REQ.SERVER.PING.CONNZ", "_INBOX_cits.x", "cits.temats")
	if !is("admin") {
		add("$JS.API.CONSUMER.DELETE."+outcomes+".channel_web", "$JS.API.CONSUMER.CREATE."+outcomes+".cits."+"outcomes.>",
			"$KV.paldies_credentials.x", "submissions."+campaign+".web.a")
	}
	if !is("admin", "intake") {
		add("$JS.API.CONSUMER.MSG.NEXT."+outcomes+".channel_web", "$JS.API.CONSUMER.CREATE."+outcomes+".channel_web")
	}
	if !is("signer", "restorer") {
		add("$KV.paldies_signed." + ledger)
	}
	events := map[string][]string{
		domain.ControlSubject(campaign):                                 {"admin", "closer", "restorer"},
		domain.SpecialistSubject(campaign, "ilze-berzina"):              {"admin", "closer", "restorer"},
		domain.VoterSubject(campaign, domain.Pseudonym{}):               {"intake", "closer", "restorer"},
		domain.AnnulmentSubject(campaign, domain.Pseudonym{}):           {"closer", "restorer"},
		domain.VoterSubject(campaign, domain.Pseudonym{}) + ".cits":     {"restorer"},
		"ledger." + campaign + ".cits":                                  {"restorer"},
		"ledger." + campaign + ".annulment.cits." + domain.StreamPrefix: {"restorer"},
	}
	for subject, roles := range events {
		if !is(roles...) {
			add(subject)
		}
	}
	return subjects
}

// consumers are the requests by which consumers of a stream are made and read from.
func consumers(stream string) []string {
	api := "$JS.API.CONSUMER."
	return []string{api + "CREATE." + stream, api + "CREATE." + stream + ".cits", api + "CREATE." + stream + ".cits.a", api + "DURABLE.CREATE." + stream + ".cits",
		api + "MSG.NEXT." + stream + ".cits", api + "INFO." + stream + ".cits", api + "DELETE." + stream + ".cits", api + "RESET." + stream + ".cits"}
}

// reading are the requests by which messages of a stream can be had.
func reading(stream string) []string {
	return []string{"$JS.API.STREAM.MSG.GET." + stream, "$JS.API.DIRECT.GET." + stream, "$JS.API.DIRECT.GET." + stream + ".a",
		"$JS.API.CONSUMER.CREATE." + stream + ".cits", "$JS.API.CONSUMER.CREATE." + stream + ".cits.a", "$JS.API.CONSUMER.CREATE." + stream,
		"$JS.API.CONSUMER.MSG.NEXT." + stream + ".cits"}
}

// unheard are the subjects that a role must not be let subscribe to.
func unheard(role string) []string {
	all := []string{">", "_INBOX.>", "*.>", "ledger.>", "submissions.>", "outcomes.>", "poison.>", "$KV.>", "$JS.API.>", "$JS.ACK.>", "$SYS.>"}
	for _, other := range operators {
		if other != role {
			all = append(all, "_INBOX_"+other+".>", "_INBOX_"+other+".x")
		}
	}
	return all
}

// TestForbidden tries what no role may do. The servers must refuse each request, and
// nothing may have changed.
func TestForbidden(t *testing.T) {
	s := startServers(t)
	data := t.TempDir()
	s.as("admin", data, 0, "deploy", "streams")
	s.as("admin", data, 0, "campaign", "open", campaign, "--opens", "2025-11-13T00:00+02:00", "--closes", "2099-11-12T00:00+02:00")
	admin, _ := s.connect("admin")
	before := s.state(admin)
	if len(before) != len(streams) {
		t.Fatalf("there are other streams than those that are tried: %v", before)
	}
	for _, role := range operators {
		nc, told := s.connect(role)
		for _, subject := range forbidden(role) {
			check(t, nc.PublishRequest(subject, nc.NewInbox(), []byte("{}")))
			refused(t, told, fmt.Sprintf("%s publishes on %s", role, subject), fmt.Sprintf("Publish to %q", subject))
		}
		for _, subject := range unheard(role) {
			_, err := nc.SubscribeSync(subject)
			check(t, err)
			refused(t, told, fmt.Sprintf("%s subscribes to %s", role, subject), fmt.Sprintf("Subscription to %q", subject))
		}
	}
	if after := s.state(admin); !equal(before, after) {
		t.Errorf("the streams were %v and are %v", before, after)
	}
}

// refused waits until the servers say that something is not allowed.
func refused(t *testing.T, told <-chan error, what, words string) {
	t.Helper()
	select {
	case err := <-told:
		if !strings.Contains(err.Error(), words) {
			t.Errorf("%s: the servers say: %v", what, err)
		}
	case <-time.After(wait):
		t.Fatalf("%s, and is not refused", what)
	}
}

// state is each stream's configuration and end.
func (s *servers) state(nc *nats.Conn) map[string]string {
	s.t.Helper()
	js, err := jetstream.New(nc)
	check(s.t, err)
	state := make(map[string]string)
	list := js.ListStreams(s.t.Context())
	for info := range list.Info() {
		state[info.Config.Name] = fmt.Sprintf("%+v %d %d", info.Config, info.State.FirstSeq, info.State.LastSeq)
	}
	check(s.t, list.Err())
	return state
}

func equal(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for name, text := range a {
		if b[name] != text {
			return false
		}
	}
	return true
}

// TestAnswers has the servers answer where a role may not publish: on a subject of
// the ledger, and on one that deletes a stream, for which an empty answer is enough.
func TestAnswers(t *testing.T) {
	s := startServers(t)
	data := t.TempDir()
	s.as("admin", data, 0, "deploy", "streams")
	s.as("admin", data, 0, "campaign", "open", campaign, "--opens", "2025-11-13T00:00+02:00", "--closes", "2099-11-12T00:00+02:00")
	admin, _ := s.connect("admin")
	before := s.state(admin)
	var targets []string
	for _, stream := range streams {
		targets = append(targets, "$JS.API.STREAM.DELETE."+stream)
	}
	targets = append(targets, "$JS.API.STREAM.PURGE."+queue.SubmissionsStream, "$KV.paldies_credentials.x", "submissions."+campaign+".web.a",
		domain.ControlSubject(campaign), domain.VoterSubject(campaign, domain.Pseudonym{}))
	for _, role := range operators {
		nc, _ := s.connect(role)
		questions := 4
		var next string // where a role asks for messages that may make consumers
		if role == "admin" {
			js, err := jetstream.New(nc)
			check(t, err)
			c, err := js.CreateConsumer(t.Context(), ledger, jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy})
			check(t, err)
			next = "$JS.API.CONSUMER.MSG.NEXT." + ledger + "." + c.CachedInfo().Name
			questions++
		}
		ask := func(reply string) {
			check(t, nc.PublishRequest("$JS.API.DIRECT.GET."+ledger, reply, []byte(`{"seq":1}`)))
			check(t, nc.PublishRequest("$JS.API.DIRECT.GET."+ledger, reply, []byte(`{"seq":99}`))) // is answered by a header alone
			check(t, nc.PublishRequest("$JS.API.STREAM.INFO."+ledger, reply, nil))
			check(t, nc.PublishRequest("$JS.API.STREAM.MSG.GET."+ledger, reply, []byte(`{"seq":1}`)))
			if next != "" {
				check(t, nc.PublishRequest(next, reply, []byte(`{"batch":1,"no_wait":true}`)))
			}
		}
		for _, target := range targets {
			ask(target)
		}
		// What is asked last, and answered, comes after all the others.
		inbox := nc.NewInbox()
		answers, err := nc.SubscribeSync(inbox)
		check(t, err)
		ask(inbox)
		for range questions {
			_, err := answers.NextMsg(wait)
			check(t, err)
		}
		if after := s.state(admin); !equal(before, after) {
			t.Fatalf("after answers to %s the streams were %v and are %v", role, before, after)
		}
	}
}

// TestNarrow tries what must be allowed by the subject, and does nothing by what
// the streams are.
func TestNarrow(t *testing.T) {
	s := startServers(t)
	data := t.TempDir()
	s.as("admin", data, 0, "deploy", "streams")
	s.as("admin", data, 0, "campaign", "open", campaign, "--opens", "2025-11-13T00:00+02:00", "--closes", "2099-11-12T00:00+02:00")
	admin, _ := s.connect("admin")
	before := s.state(admin)
	for role, names := range map[string][]string{
		"intake":   {queue.SubmissionsStream, queue.PoisonStream},
		"restorer": {ledger, outcomes, signed},
		"admin":    streams,
	} {
		nc, _ := s.connect(role)
		js, err := jetstream.New(nc)
		check(t, err)
		for _, name := range names {
			_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{"cits." + name}, MaxMsgs: 1})
			if !isNameTaken(err) {
				t.Errorf("%s makes the stream %s anew: %v", role, name, err)
			}
		}
	}
	// The closer may update a ledger's stream, which keeps what Deny protects.
	nc, _ := s.connect("closer")
	js, err := jetstream.New(nc)
	check(t, err)
	stream, err := js.Stream(t.Context(), ledger)
	check(t, err)
	config := stream.CachedInfo().Config
	config.DenyDelete, config.DenyPurge = false, false
	if _, err := js.UpdateStream(t.Context(), config); err == nil {
		t.Error("the closer lets messages of the ledger be deleted")
	}
	// Channels are elsewhere: what they publish reaches nothing but their part of the queue.
	for _, channel := range channels {
		nc, _ := s.connect(channel)
		for _, subject := range forbidden(channel) {
			if subject == "submissions."+campaign+".web.a" {
				continue // tried below, for the others
			}
			check(t, nc.PublishRequest(subject, nc.NewInbox(), []byte("{}")))
		}
		for _, other := range channels {
			answer, err := nc.Request("submissions."+campaign+"."+other+".kads", []byte("{}"), wait)
			if accepted := err == nil && strings.Contains(string(answer.Data), `"stream":"SUBMISSIONS"`); accepted != (other == channel) {
				t.Errorf("%s hands in for %s: %v", channel, other, err)
			}
		}
	}
	for name, was := range before {
		if now := s.state(admin)[name]; name != queue.SubmissionsStream && now != was {
			t.Errorf("stream %s was %s and is %s", name, was, now)
		}
	}
	s.as("auditor", filepath.Join(data, "auditor"), 0, "audit", "verify", "--campaign", campaign)
}

func isNameTaken(err error) bool {
	return err != nil && strings.Contains(err.Error(), "stream name already in use")
}
