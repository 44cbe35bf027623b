package api

import "time"

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
	Start     Start     `json:"start" doc:"what the time of its start went to"`
}
