package openstack

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"

	"herdbook/internal/event"
)

// abandoned is how old an upload from elsewhere is of which nobody takes care any more.
const abandoned = 24 * time.Hour

// rotate takes the name from other revisions, and deletes those that are too many, and what
// uploads from elsewhere left.
func (d *delivery) rotate(ctx context.Context, c *cloud, image *images.Image, all []images.Image) error {
	kept := 0
	for _, old := range all {
		switch {
		case old.ID == image.ID:
			continue
		case old.Name == d.incomplete():
			if image.UpdatedAt.Sub(old.UpdatedAt) > abandoned { // by the cloud's clock
				if err := d.discard(ctx, c, old); err != nil {
					return fmt.Errorf("delete what an upload left: %w", err)
				}
			}
			continue
		}
		if err := d.retire(ctx, c, old); err != nil {
			return fmt.Errorf("take the name from the older %s: %w", old.ID, err)
		}
		if kept++; d.Keep == nil || kept <= *d.Keep {
			continue
		}
		if err := d.discard(ctx, c, old); err != nil {
			return fmt.Errorf("delete the older %s: %w", old.ID, err)
		}
	}
	return d.warn(ctx, c)
}

// retire hides or renames an older revision. That it cannot be deleted was for the time
// in which it had the name.
func (d *delivery) retire(ctx context.Context, c *cloud, old images.Image) error {
	var patches images.UpdateOpts
	switch {
	case d.Rotate == "hide" && !old.Hidden:
		patches = append(patches, images.ReplaceImageHidden{NewHidden: true})
	case d.Rotate == "rename" && old.Name == d.Name:
		patches = append(patches, images.ReplaceImageName{NewName: rotated(old)})
	}
	if old.Protected && d.Protected {
		patches = append(patches, images.ReplaceImageProtected{NewProtected: false})
	}
	if len(patches) == 0 {
		return nil
	}
	d.changed = true
	_, err := images.Update(ctx, c.images, old.ID, patches).Extract()
	return err
}

// discard deletes an older revision, unless somebody uses it or has it protected.
func (d *delivery) discard(ctx context.Context, c *cloud, old images.Image) error {
	keep := func(why string) {
		d.sink.Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf("the older %s of %s stays: %s", old.ID, d.Name, why)})
	}
	if old.Protected && !d.Protected {
		keep("it is protected")
		return nil
	}
	used, err := c.used(ctx, old.ID)
	switch {
	case err != nil && ctx.Err() == nil:
		keep("whether a server uses it could not be found out: " + explain(err).Error())
		return nil
	case err != nil:
		return err
	case used:
		keep("a server uses it")
		return nil
	}
	err = c.remove(ctx, old.ID)
	switch {
	case gophercloud.ResponseCodeIs(err, http.StatusConflict):
		keep("the cloud says that it is in use")
		return nil
	case gophercloud.ResponseCodeIs(err, http.StatusForbidden):
		keep("the cloud does not let it be deleted")
		return nil
	case err == nil:
		d.changed = true
	}
	return err
}

// used asks Nova whether a server was made of an image: of any project, where that may be
// asked.
func (c *cloud) used(ctx context.Context, id string) (bool, error) {
	if c.servers == nil {
		return false, nil
	}
	var said struct {
		Servers []struct {
			ID string `json:"id"`
		} `json:"servers"`
	}
	for _, all := range []bool{true, false} {
		by := url.Values{"image": {id}, "limit": {"1"}}
		if all {
			by.Set("all_tenants", "1")
		}
		_, err := c.servers.Get(ctx, c.servers.ServiceURL("servers")+"?"+by.Encode(), &said, nil)
		if all && gophercloud.ResponseCodeIs(err, http.StatusForbidden) {
			continue
		}
		return len(said.Servers) > 0, err
	}
	return false, nil
}

// warn tells of images that have the same name by another hand.
func (d *delivery) warn(ctx context.Context, c *cloud) error {
	named, err := c.find(ctx, query{"name": {d.Name}})
	if err != nil {
		return err
	}
	for _, other := range named {
		if property(other, imageProperty) == "" {
			d.sink.Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf("%s has another image called %s, %s, which herdbook did not make: rename or delete it", c.name, d.Name, other.ID)})
		}
	}
	return nil
}

// rotated is the name of an image that has lost its own.
func rotated(image images.Image) string {
	return image.Name + " " + image.CreatedAt.UTC().Format("2006-01-02 15:04:05")
}
