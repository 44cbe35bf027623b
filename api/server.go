package api

import "time"

// Server is what a server says of itself.
type Server struct {
	Version       string    `json:"version"`
	Driver        string    `json:"driver" doc:"what makes its instances" example:"sandbox"`
	Node          int       `json:"node" doc:"its number in ids"`
	Capabilities  []string  `json:"capabilities" nullable:"false" doc:"what it can do on this machine"`
	StartedAt     time.Time `json:"started_at"`
	UptimeSeconds float64   `json:"uptime_seconds"`
}
