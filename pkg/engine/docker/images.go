// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	"github.com/rootless-kubernetes/rk/pkg/engine"
)

// loadedImage begins the daemon's message about an image with a name that it loaded.
const loadedImage = "Loaded image: "

// InspectImage implements engine.Images.
func (c *Client) InspectImage(ctx context.Context, ref string) (engine.Image, error) {
	if err := ctx.Err(); err != nil {
		return engine.Image{}, err
	}
	report, err := c.api.ImageInspect(ctx, ref)
	if err != nil {
		return engine.Image{}, fmt.Errorf("image %s: %w", ref, answered(ctx, err))
	}
	return toImage(report), nil
}

// ListImages implements engine.Images.
func (c *Client) ListImages(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	reports, err := c.api.ImageList(ctx, image.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", answered(ctx, err))
	}
	refs := []string{}
	for _, r := range reports {
		for _, tag := range r.RepoTags {
			if tag != "<none>:<none>" { // versions before API 1.43 say so
				refs = append(refs, tag)
			}
		}
	}
	slices.Sort(refs)
	return refs, nil
}

// LoadImage implements engine.Images.
func (c *Client) LoadImage(ctx context.Context, archive io.Reader) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	body := withManifest(archive)
	defer body.Close()
	response, err := c.api.ImageLoad(ctx, source{body}, client.ImageLoadWithQuiet(true))
	if err != nil {
		return nil, fmt.Errorf("load image: %w", answered(ctx, err))
	}
	defer response.Body.Close()
	var refs []string
	err = progress(response.Body, func(text string) {
		if ref, ok := strings.CutPrefix(text, loadedImage); ok {
			refs = append(refs, strings.TrimSpace(ref))
		}
	})
	if err != nil {
		return nil, fmt.Errorf("load image: %w", failure(ctx, err))
	}
	return refs, nil
}

// SaveImages implements engine.Images.
func (c *Client) SaveImages(ctx context.Context, refs []string) (io.ReadCloser, error) {
	for _, ref := range refs { // the daemon's own error about one is not the same in all versions
		if _, err := c.InspectImage(ctx, ref); err != nil {
			return nil, fmt.Errorf("save images: %w", err)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	archive, err := c.api.ImageSave(ctx, refs)
	if err != nil {
		return nil, fmt.Errorf("save images: %w", answered(ctx, err))
	}
	return archive, nil
}

// PullImage implements engine.Images.
func (c *Client) PullImage(ctx context.Context, ref string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	stream, err := c.api.ImagePull(ctx, ref, image.PullOptions{})
	if err != nil {
		return fmt.Errorf("pull image %s: %w", ref, unnamed(answered(ctx, err)))
	}
	defer stream.Close()
	return wrap(failure(ctx, progress(stream, func(string) {})), "pull image %s", ref)
}

// unnamed drops an error's kind: what a registry does not have is no object of
// the engine's that does not exist.
func unnamed(err error) error {
	var e *apiError
	if errors.As(err, &e) {
		return &apiError{text: e.text}
	}
	return err
}

// RemoveImage implements engine.Images.
func (c *Client) RemoveImage(ctx context.Context, ref string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := c.api.ImageRemove(ctx, ref, image.RemoveOptions{PruneChildren: true})
	err = answered(ctx, err)
	if errors.Is(err, engine.ErrNotFound) {
		return nil
	}
	return wrap(err, "remove image %s", ref)
}

// progress reads the messages about a long operation until it is over, and
// returns its failure, which comes as one of them.
func progress(r io.Reader, said func(text string)) error {
	decoder := json.NewDecoder(r)
	for {
		var m struct {
			Stream      string `json:"stream"`
			Error       string `json:"error"`
			ErrorDetail struct {
				Message string `json:"message"`
			} `json:"errorDetail"`
		}
		switch err := decoder.Decode(&m); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case m.ErrorDetail.Message != "":
			return &apiError{text: oneLine(m.ErrorDetail.Message)}
		case m.Error != "":
			return &apiError{text: oneLine(m.Error)}
		}
		said(m.Stream)
	}
}
