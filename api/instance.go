package api

import "time"

// Kept tells about the instances of a function that are kept without being
// called.
type Kept struct {
	Want    int       `json:"want" doc:"instances.min"`
	Ready   int       `json:"ready" doc:"of these, the ones that there are"`
	Problem string    `json:"problem,omitempty" doc:"why there are not more, or what happened to one lately"`
	RetryAt time.Time `json:"retry_at,omitzero" doc:"when the next start is tried"`
}

// Instance is a live container that serves a version.
type Instance struct {
	ID        string    `json:"id" doc:"ins_ and 13 characters" example:"ins_0002m1w5x1g00"`
	App       string    `json:"app"`
	Function  string    `json:"function"`
	Version   int       `json:"version"`
	Driver    string    `json:"driver" example:"sandbox"`
	State     string    `json:"state" enum:"starting,busy,hot,frozen,stopping"`
	Memory    Bytes     `json:"memory" doc:"its limit" example:"128MiB"`
	Served    int64     `json:"served" doc:"runs it has served"`
	StartedAt time.Time `json:"started_at"`
	UsedAt    time.Time `json:"used_at,omitzero" doc:"when it last served a run"`
	FrozenAt  time.Time `json:"frozen_at,omitzero" doc:"when it was frozen, for one that is"`
	Thaws     int64     `json:"thaws" doc:"how often it was frozen and thawed again"`
	Start     Start     `json:"start" doc:"what the time of its start went to"`
}
