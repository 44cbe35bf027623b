package api

import "time"

// Server is what a server says of itself.
type Server struct {
	Version       string    `json:"version"`
	Driver        string    `json:"driver" doc:"what makes its instances" example:"sandbox"`
	Node          int       `json:"node" doc:"its number in ids"`
	Capabilities  []string  `json:"capabilities" nullable:"false" doc:"what its driver can do on this machine: the networks, as network_egress, and what else there is: sockets, freeze, detach, users (instances run as the user of their image), and the limits that are enforced, as limit_memory"`
	Missing       []Missing `json:"missing" nullable:"false" doc:"what its driver could do and does not, or does less well than it could"`
	StartedAt     time.Time `json:"started_at"`
	UptimeSeconds float64   `json:"uptime_seconds"`
}

// Missing is something that a server's driver does not do on its machine.
type Missing struct {
	Name   string `json:"name" doc:"what is missing, a word or two"`
	Why    string `json:"why" doc:"what was found"`
	Remedy string `json:"remedy,omitempty" doc:"what a person can do about it"`
}
