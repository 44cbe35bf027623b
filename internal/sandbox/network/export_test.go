package network

// Abandon ends the goroutines and sockets of a network as the kernel does for a killed process, and removes nothing.
func Abandon(n *Network) {
	n.relay.close()
	n.doorman.close()
	n.reaper.close()
	n.routes.close()
}
