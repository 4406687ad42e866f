package cli

import (
	"context"
	"time"

	"sakipaldies.lv/ledger/projections"
)

// What a projector can be doing.
const (
	projectorLeading     = "leading"
	projectorWaiting     = "waiting"     // another process works
	projectorInterrupted = "interrupted" // the error says why; it is tried again
)

// projectorState is what a projector is doing. One that waits is ready, and
// knows of no campaigns: the one that works does.
type projectorState struct {
	Ready     bool            `json:"ready"`
	State     string          `json:"state"`
	Since     time.Time       `json:"since"`
	Database  string          `json:"database"`
	Error     string          `json:"error,omitempty"`
	Campaigns []campaignState `json:"campaigns"`
}

// state asks the ledgers for their ends when it is this process that works.
func (p *projector) state(ctx context.Context) projectorState {
	leadership := p.leader.State()
	s := projectorState{Ready: true, State: projectorWaiting, Since: leadership.Since, Database: p.where, Campaigns: []campaignState{}}
	err := leadership.Err
	if p.node.Load() == nil {
		err = errNodeGone
	}
	if err == nil && leadership.Leading {
		s.State = projectorLeading
		var states []projections.State
		states, err = p.runner.States(ctx)
		s.Campaigns, s.Ready = campaignStates(states)
	}
	if err != nil {
		s.Ready, s.State, s.Error = false, projectorInterrupted, err.Error()
	}
	return s
}
