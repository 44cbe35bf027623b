// Package peer starts the same program by other means, to compare with: as a
// plain process, by runc, by a Docker Engine; and puts a proxy of net/http in
// front of it, as the least that stands in between.
//
// Each does what it needs no more than once ahead (unpack the image, start the
// engine), and then per start everything from the decision to the first byte
// of the program's answer. The program listens inside its network; who has
// one of its own is reached by entering it, or over the bridge.
package peer
