package registry

import (
	"context"
	"fmt"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Keychain has the credentials for registries.
type Keychain interface {
	// Credentials gives those for a repository, such as
	// "registry.example/shop/resize"; the zero value when there are none.
	Credentials(ctx context.Context, repository string) (core.RegistryCredentials, error)
}

// DockerConfig is the keychain of the user that the program runs as: what
// docker login, podman login and their credential helpers keep. It reads
// config.json in DOCKER_CONFIG, or else in ~/.docker, anew each time.
type DockerConfig struct{}

// Credentials implements [Keychain].
func (DockerConfig) Credentials(ctx context.Context, repository string) (core.RegistryCredentials, error) {
	target, err := name.NewRepository(repository)
	if err != nil {
		return core.RegistryCredentials{}, fmt.Errorf("look for the credentials of %s: %w", repository, err)
	}
	found, err := authn.Resolve(ctx, authn.DefaultKeychain, target)
	if err != nil {
		return core.RegistryCredentials{}, fmt.Errorf("look for the credentials of %s: %w", repository, err)
	}
	auth, err := authn.Authorization(ctx, found)
	if err != nil {
		return core.RegistryCredentials{}, fmt.Errorf("look for the credentials of %s: %w", repository, err)
	}
	return core.RegistryCredentials{
		User: auth.Username, Password: auth.Password, Basic: auth.Auth,
		IdentityToken: auth.IdentityToken, Token: auth.RegistryToken,
	}, nil
}

func authenticator(c core.RegistryCredentials) authn.Authenticator {
	if c == (core.RegistryCredentials{}) {
		return authn.Anonymous
	}
	return authn.FromConfig(authn.AuthConfig{
		Username: c.User, Password: c.Password, Auth: c.Basic, IdentityToken: c.IdentityToken, RegistryToken: c.Token,
	})
}
