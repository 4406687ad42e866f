package intake

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"sakipaldies.lv/ledger/domain"
)

// inPerson is the channel that may state when its voters acted: slips are
// entered later.
const inPerson = "in_person"

// ErrStatedTime says that a channel has stated when a voter acted, and may not.
var ErrStatedTime = errors.New("this channel may not state a time")

// MayStateTime says whether a channel may state when its voters acted.
func MayStateTime(channel string) bool { return channel == inPerson }

// StatedTime reads when a voter acted, as a channel's own submission states it:
// empty for now. Errors are ErrStatedTime and *InvalidError, and repeat nothing
// of the text.
func StatedTime(channel, text string) (time.Time, error) {
	switch {
	case text == "":
		return time.Time{}, nil
	case !MayStateTime(channel):
		return time.Time{}, ErrStatedTime
	}
	t, err := parseTime(text)
	if err != nil {
		return time.Time{}, &InvalidError{errors.New("cast_at is not a time with an offset, such as 2018-03-01T09:30:00+02:00")}
	}
	return t, nil
}

// EventID is the id of the event that a command becomes when it is accepted,
// and so of the submission itself: channel, voter, submission id and action. It
// is there for one that will be refused, too. Without the campaign's key nobody
// can tell by it who the voter is.
func (in *Intake) EventID(ctx context.Context, cmd Command) (uuid.UUID, error) {
	if in.cfg.Key == nil {
		return uuid.Nil, fmt.Errorf("campaign %s: %w", in.cfg.Campaign, ErrNoKey)
	}
	if cmd.SubmissionID == "" {
		return uuid.Nil, &InvalidError{errors.New("submission id is empty")}
	}
	if err := in.renew(ctx, cmd.Channel); err != nil {
		return uuid.Nil, err
	}
	channel, ok := in.Register().Campaign().Channel(cmd.Channel)
	if !ok {
		// It will be refused. Whose it is goes by what was sent.
		channel.Identity = domain.Declared
		if cmd.Voter == "" {
			channel.Identity = domain.NoIdentity
		}
	}
	voter, err := in.pseudonym(cmd, channel)
	if err != nil {
		return uuid.Nil, &InvalidError{err}
	}
	return domain.SubmissionEventID(in.cfg.Campaign, cmd.Channel, voter, cmd.SubmissionID, cmd.Action), nil
}
