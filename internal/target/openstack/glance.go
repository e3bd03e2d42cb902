package openstack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imageimport"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/members"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"herdbook/internal/artefact"
	"herdbook/internal/event"
)

// The properties by which images are found again: whose revisions they are, the layer, the
// digest of the file, and where it was brought from.
const (
	imageProperty  = "herdbook_image"
	layerProperty  = "herdbook_layer"
	sourceProperty = "herdbook_source"
	originProperty = "herdbook_origin"
)

// query is what images are looked for by.
type query url.Values

// ToImageListQuery implements images.ListOptsBuilder.
func (q query) ToImageListQuery() (string, error) { return "?" + url.Values(q).Encode(), nil }

// maxImages bounds the images of one name in a project.
const maxImages = 5000

// find lists images of the project.
func (c *cloud) find(ctx context.Context, by query) (list []images.Image, err error) {
	by["owner"], by["limit"] = []string{c.project}, []string{"100"}
	err = images.List(c.images, by).EachPage(ctx, func(_ context.Context, page pagination.Page) (bool, error) {
		some, err := images.ExtractImages(page)
		if list = append(list, some...); err == nil && len(list) > maxImages {
			err = fmt.Errorf("there are more than %d of the name: delete old ones (keep = N)", maxImages)
		}
		return true, err
	})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	return list, nil
}

// list lists all revisions of an image, the newest first. Glance shows the hidden ones
// only to who asks for them alone.
func (c *cloud) list(ctx context.Context, name string) (all []images.Image, err error) {
	for _, hidden := range []string{"false", "true"} {
		some, err := c.find(ctx, query{imageProperty: {name}, "os_hidden": {hidden}})
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	newestFirst(all)
	return all, nil
}

// property is a property of an image; "" if it has none of the name.
func property(image images.Image, name string) string {
	value, _ := image.Properties[name].(string)
	return value
}

// newestFirst orders images.
func newestFirst(list []images.Image) {
	slices.SortStableFunc(list, func(a, b images.Image) int {
		if c := b.CreatedAt.Compare(a.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(b.ID, a.ID)
	})
}

// remove deletes an image; one that is not there is no error.
func (c *cloud) remove(ctx context.Context, id string) error {
	err := images.Delete(ctx, c.images, id).ExtractErr()
	if gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
		return nil
	}
	return err
}

// importing is how Glance is told to import.
type importing struct {
	Name string `json:"name"`
	URI  string `json:"uri,omitempty"`
}

// ToImportCreateMap implements imageimport.CreateOptsBuilder.
func (i importing) ToImportCreateMap() (map[string]any, error) {
	return map[string]any{"method": i}, nil
}

// bring has the cloud get the bytes.
func (d *delivery) bring(ctx context.Context, c *cloud, id string) (err error) {
	if d.Import == "web-download" {
		at := strings.TrimSuffix(d.URL, "/") + "/" + url.PathEscape(filepath.Base(d.path))
		return imageimport.Create(ctx, c.images, id, importing{d.Import, at}).ExtractErr()
	}
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	stat, err := f.Stat()
	if err != nil {
		return err
	}
	body := &upload{r: artefact.Within(ctx, f), size: stat.Size(), sink: d.sink}
	if d.Import == "direct" {
		return imagedata.Upload(ctx, c.images, id, body).ExtractErr()
	}
	if err := imagedata.Stage(ctx, c.images, id, body).ExtractErr(); err != nil {
		return err
	}
	return imageimport.Create(ctx, c.images, id, importing{Name: d.Import}).ExtractErr()
}

// The cloud is asked for an image that it imports ever more rarely, and for so long.
const (
	askAtMost = 10 * time.Second
	askFor    = 2 * time.Hour
)

// await waits until the image is active.
func (d *delivery) await(ctx context.Context, c *cloud, id string) (*images.Image, error) {
	d.sink.Emit(event.Event{Kind: event.Phase, Text: "wait for " + c.name})
	for waited, pause := time.Duration(0), d.first(); ; pause = min(2*pause, askAtMost) {
		image, err := images.Get(ctx, c.images, id).Extract()
		if err != nil {
			return nil, err
		}
		switch image.Status {
		case images.ImageStatusActive:
			return image, nil
		case images.ImageStatusKilled, images.ImageStatusDeleted, images.ImageStatusPendingDelete, images.ImageStatusDeactivated:
			return nil, fmt.Errorf("the image has become %s", image.Status)
		}
		if why := c.failure(ctx, id); why != "" {
			return nil, fmt.Errorf("the cloud could not import it: %s", why)
		}
		if waited += pause; waited > askFor {
			return nil, fmt.Errorf("the image is still %s after %s", image.Status, askFor)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// failure is what the newest task of an image says, if it failed. Where nothing tells of
// tasks, nothing is known.
func (c *cloud) failure(ctx context.Context, id string) string {
	type task struct {
		Status  string `json:"status"`
		Message string `json:"message"`
		Created string `json:"created_at"`
	}
	var said struct {
		Tasks []task `json:"tasks"`
	}
	if _, err := c.images.Get(ctx, c.images.ServiceURL("images", id, "tasks"), &said, nil); err != nil || len(said.Tasks) == 0 {
		return ""
	}
	newest := slices.MaxFunc(said.Tasks, func(a, b task) int { return strings.Compare(a.Created, b.Created) })
	if newest.Status != "failure" {
		return ""
	}
	return plain("it says no more", newest.Message)
}

// promote gives the image its name, and all else that is wanted of it, in one step.
func (d *delivery) promote(ctx context.Context, c *cloud, image *images.Image) error {
	if patches := d.differences(image); len(patches) > 0 {
		d.changed = true
		if _, err := images.Update(ctx, c.images, image.ID, patches).Extract(); err != nil {
			return fmt.Errorf("set what is known of the image: %w", err)
		}
	}
	if len(d.Members) == 0 {
		return nil
	}
	pages, err := members.List(c.images, image.ID).AllPages(ctx)
	if err != nil {
		return fmt.Errorf("list the members: %w", err)
	}
	list, err := members.ExtractMembers(pages)
	if err != nil {
		return fmt.Errorf("list the members: %w", err)
	}
	var have []string
	for _, m := range list {
		if have = append(have, m.MemberID); !slices.Contains(d.Members, m.MemberID) {
			d.changed = true
			if err := members.Delete(ctx, c.images, image.ID, m.MemberID).ExtractErr(); err != nil {
				return fmt.Errorf("remove the member %s: %w", m.MemberID, err)
			}
		}
	}
	for _, m := range d.Members {
		if !slices.Contains(have, m) {
			d.changed = true
			if _, err := members.Create(ctx, c.images, image.ID, m).Extract(); err != nil {
				return fmt.Errorf("add the member %s: %w", m, err)
			}
		}
	}
	return nil
}

// differences are the changes that make an image what is wanted.
func (d *delivery) differences(image *images.Image) (patches images.UpdateOpts) {
	add := func(differs bool, p images.Patch) {
		if differs {
			patches = append(patches, p)
		}
	}
	add(image.Name != d.Name, images.ReplaceImageName{NewName: d.Name})
	add(image.Hidden, images.ReplaceImageHidden{NewHidden: false})
	add(string(image.Visibility) != d.Visibility, images.UpdateVisibility{Visibility: images.ImageVisibility(d.Visibility)})
	add(image.Protected != d.Protected, images.ReplaceImageProtected{NewProtected: d.Protected})
	add(image.MinDiskGigabytes != d.facts.MinDisk, images.ReplaceImageMinDisk{NewMinDisk: d.facts.MinDisk})
	add(image.MinRAMMegabytes != d.facts.MinRAM, images.ReplaceImageMinRam{NewMinRam: d.facts.MinRAM})
	tags := slices.Compact(slices.Sorted(slices.Values(d.Tags)))
	add(!slices.Equal(tags, slices.Sorted(slices.Values(image.Tags))), images.ReplaceImageTags{NewTags: append([]string{}, tags...)})
	for _, name := range slices.Sorted(maps.Keys(d.facts.Properties)) {
		want := d.facts.Properties[name]
		if have, ok := image.Properties[name]; !ok {
			patches = append(patches, images.UpdateImageProperty{Op: images.AddOp, Name: name, Value: want})
		} else {
			add(have != want, images.UpdateImageProperty{Op: images.ReplaceOp, Name: name, Value: want})
		}
	}
	return patches
}
