package ovf

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

const (
	envelope = "http://schemas.dmtf.org/ovf/envelope/1"
	rasd     = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
	vssd     = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
)

// node is an element as a parser with namespaces sees it.
type node struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Text     string     `xml:",chardata"`
	Children []node     `xml:",any"`
}

func (n node) attr(name string) string {
	for _, a := range n.Attrs {
		if a.Name.Space == envelope && a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// find lists the elements of a name below a node, in order.
func (n node) find(name string) (list []node) {
	for _, c := range n.Children {
		if c.XMLName.Local == name {
			list = append(list, c)
		}
		list = append(list, c.find(name)...)
	}
	return list
}

// value is the text of a child; "" if it has none of that name.
func (n node) value(name string) string {
	for _, c := range n.Children {
		if c.XMLName.Local == name {
			return strings.TrimSpace(c.Text)
		}
	}
	return ""
}

// violations holds a descriptor against the rules of DSP0243 1.0 that its schema and its
// text have for what it says.
func violations(text []byte) (problems []string) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	var root node
	d := xml.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&root); err != nil {
		return []string{err.Error()}
	}
	if end, err := d.Token(); err == nil {
		if space, ok := end.(xml.CharData); !ok || len(bytes.TrimSpace(space)) > 0 {
			bad("%v follows the envelope", end)
		}
	} else if err != io.EOF {
		bad("behind the envelope: %v", err)
	}
	if root.XMLName != (xml.Name{Space: envelope, Local: "Envelope"}) {
		bad("the root is %v", root.XMLName)
	}
	// 8.1: references, then sections, then one system.
	var order []string
	for _, c := range root.Children {
		order = append(order, c.XMLName.Local)
	}
	if !slices.Equal(order, []string{"References", "DiskSection", "NetworkSection", "VirtualSystem"}) {
		bad("the envelope has %v", order)
	}
	ids := func(element, attribute string) (list []string) {
		for _, n := range root.find(element) {
			if id := n.attr(attribute); id == "" || slices.Contains(list, id) {
				bad("%s has the %s %q", element, attribute, id)
			} else {
				list = append(list, id)
			}
		}
		return list
	}
	files, disks, networks := ids("File", "id"), ids("Disk", "diskId"), ids("Network", "name")
	for _, disk := range root.find("Disk") {
		if !slices.Contains(files, disk.attr("fileRef")) || disk.attr("capacity") == "" || disk.attr("format") == "" {
			bad("a disk: %v", disk.Attrs)
		}
	}
	// Every section begins with its Info.
	for _, name := range []string{"DiskSection", "NetworkSection", "VirtualSystem", "AnnotationSection", "OperatingSystemSection", "VirtualHardwareSection"} {
		for _, section := range root.find(name) {
			if len(section.Children) == 0 || section.Children[0].XMLName.Local != "Info" {
				bad("%s does not begin with its Info", name)
			}
		}
	}
	instances := map[string]string{} // instance → type of resource
	for _, item := range root.find("Item") {
		id := item.value("InstanceID")
		if _, twice := instances[id]; twice || id == "" {
			bad("the instance %q", id)
		}
		instances[id] = item.value("ResourceType")
	}
	for _, item := range append(root.find("Item"), root.find("System")...) {
		space, names := rasd, []string{}
		if item.XMLName.Local == "System" {
			space = vssd
		}
		for _, c := range item.Children {
			if c.XMLName.Space != space {
				bad("%v is in another namespace", c.XMLName)
			}
			names = append(names, c.XMLName.Local)
		}
		if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) {
			bad("the schema wants the elements of an item in order: %v", names)
		}
		if item.value("ElementName") == "" {
			bad("an item without ElementName: %v", names)
		}
		if parent := item.value("Parent"); parent != "" && instances[parent] == "" {
			bad("there is no parent %s", parent)
		}
		if c := item.value("Connection"); c != "" && !slices.Contains(networks, c) {
			bad("there is no network %s", c)
		}
		if disk, ok := strings.CutPrefix(item.value("HostResource"), "ovf:/disk/"); ok != (item.value("ResourceType") == "17") || ok && !slices.Contains(disks, disk) {
			bad("the disk %q of %v", disk, names)
		}
	}
	return problems
}

// machine is one with a name that needs care.
func machine() Machine {
	return Machine{
		Name: `a<b>&"c"`, Annotation: "line\nof & text", System: SystemOf("debian"), CPUs: 2, Memory: 1024, MAC: MAC([16]byte{15: 0xaf}),
		Disk: Disk{File: "d&d.vmdk", Size: 12345, Capacity: 2 << 30, UUID: UUID([16]byte{0: 1, 15: 2})},
	}
}

func TestADescriptorHoldsTheRules(t *testing.T) {
	text, err := machine().Text()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range violations(text) {
		t.Error(problem)
	}
	var root node
	if err := xml.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	if got := root.find("VirtualSystem")[0].attr("id"); got != `a<b>&"c"` {
		t.Errorf("the name is %q", got)
	}
	if got := root.find("File")[0].attr("href") + " " + root.find("File")[0].attr("size") + " " + root.find("Disk")[0].attr("capacity"); got != "d&d.vmdk 12345 2147483648" {
		t.Errorf("the disk is %q", got)
	}
	if MAC([16]byte{15: 0xaf}) != "0800270000AF" || UUID([16]byte{0: 1, 15: 2}) != "01000000-0000-0000-0000-000000000002" {
		t.Error("an identifier is written in another way")
	}
}

func TestTheRulesFindWhatBreaksThem(t *testing.T) {
	text, err := machine().Text()
	if err != nil {
		t.Fatal(err)
	}
	for _, spoil := range [][2]string{
		{`ovf:fileRef="file1"`, `ovf:fileRef="file2"`},
		{"<rasd:Parent>3<", "<rasd:Parent>9<"},
		{"<rasd:Connection>NAT<", "<rasd:Connection>Bridge<"},
		{"ovf:/disk/vmdisk1", "ovf:/disk/vmdisk2"},
		{"<rasd:InstanceID>5<", "<rasd:InstanceID>4<"},
		{"<Info>The hardware</Info>", ""},
		{"</Envelope>", "</Envelope><x></x>"},
	} {
		spoilt := strings.Replace(string(text), spoil[0], spoil[1], 1)
		if spoilt == string(text) {
			t.Errorf("there is no %s", spoil[0])
		}
		if violations([]byte(spoilt)) == nil {
			t.Errorf("%s for %s is found by nobody", spoil[1], spoil[0])
		}
	}
}
