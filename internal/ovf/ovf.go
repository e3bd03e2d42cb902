// Package ovf writes descriptors of the Open Virtualization Format 1.0 (DMTF DSP0243):
// one machine with one disk on AHCI and one network device behind NAT, as VirtualBox and
// those that are like it have them. It writes no archive.
package ovf

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"text/template"
)

// Machine is what a descriptor tells of.
type Machine struct {
	Name       string
	Annotation string // for people
	System     System
	CPUs       int
	Memory     int // MiB
	MAC        string
	Disk       Disk
}

// System names an operating system.
type System struct {
	CIM        int    // CIM_OperatingSystem.OSType
	VirtualBox string // its name for it
}

// Disk is a streamOptimized VMDK beside the descriptor.
type Disk struct {
	File     string
	Size     int64  // bytes of the file
	Capacity int64  // bytes of the disk
	UUID     string // as the file has it
}

// systems are those that have names of their own, by the ID of os-release.
var systems = map[string]System{
	"debian": {96, "Debian_64"}, "ubuntu": {94, "Ubuntu_64"}, "fedora": {101, "Fedora_64"}, "rhel": {80, "RedHat_64"},
	"centos": {107, "RedHat_64"}, "almalinux": {80, "RedHat_64"}, "rocky": {80, "RedHat_64"}, "ol": {109, "Oracle_64"},
	"sles": {85, "OpenSUSE_64"}, "opensuse-leap": {101, "OpenSUSE_64"}, "opensuse-tumbleweed": {101, "OpenSUSE_64"}, "arch": {101, "ArchLinux_64"},
}

// SystemOf is that of a system for amd64, by the ID of its os-release.
func SystemOf(id string) System {
	if s, ok := systems[id]; ok {
		return s
	}
	return System{101, "Linux26_64"}
}

// Modules are those of the kernel that drive what a descriptor names.
func Modules() []string { return []string{"ahci", "sd_mod", "e1000"} }

// MAC is an address of VirtualBox's range for a machine that has this identifier.
func MAC(id [16]byte) string { return fmt.Sprintf("080027%X", id[13:]) }

// UUID writes an identifier as UUIDs are written.
func UUID(id [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// Text is the descriptor. Within an item the elements stand in the order of names, as the
// schema has it.
func (m Machine) Text() ([]byte, error) {
	var out bytes.Buffer
	if err := descriptor.Execute(&out, m); err != nil {
		return nil, fmt.Errorf("write OVF: %w", err)
	}
	return out.Bytes(), nil
}

func escape(value any) (string, error) {
	var out bytes.Buffer
	err := xml.EscapeText(&out, []byte(fmt.Sprint(value)))
	return out.String(), err
}

var descriptor = template.Must(template.New("ovf").Funcs(template.FuncMap{"x": escape}).Parse(`<?xml version="1.0" encoding="UTF-8"?>
<Envelope ovf:version="1.0" xml:lang="en-US" xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" xmlns:vbox="http://www.virtualbox.org/ovf/machine">
  <References>
    <File ovf:id="file1" ovf:href="{{x .Disk.File}}" ovf:size="{{.Disk.Size}}"/>
  </References>
  <DiskSection>
    <Info>The disk</Info>
    <Disk ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:capacity="{{.Disk.Capacity}}" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized" vbox:uuid="{{x .Disk.UUID}}"/>
  </DiskSection>
  <NetworkSection>
    <Info>The network</Info>
    <Network ovf:name="NAT">
      <Description>Out through the host, by NAT</Description>
    </Network>
  </NetworkSection>
  <VirtualSystem ovf:id="{{x .Name}}">
    <Info>The machine</Info>
    <AnnotationSection>
      <Info>Where it comes from</Info>
      <Annotation>{{x .Annotation}}</Annotation>
    </AnnotationSection>
    <OperatingSystemSection ovf:id="{{.System.CIM}}">
      <Info>The operating system</Info>
      <Description>{{x .System.VirtualBox}}</Description>
      <vbox:OSType ovf:required="false">{{x .System.VirtualBox}}</vbox:OSType>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>The hardware</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>{{x .Name}}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>virtualbox-2.2</vssd:VirtualSystemType>
      </System>
      <Item>
        <rasd:Caption>{{.CPUs}} virtual CPU</rasd:Caption>
        <rasd:Description>Number of virtual CPUs</rasd:Description>
        <rasd:ElementName>{{.CPUs}} virtual CPU</rasd:ElementName>
        <rasd:InstanceID>1</rasd:InstanceID>
        <rasd:ResourceType>3</rasd:ResourceType>
        <rasd:VirtualQuantity>{{.CPUs}}</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits>
        <rasd:Caption>{{.Memory}} MB of memory</rasd:Caption>
        <rasd:Description>Memory Size</rasd:Description>
        <rasd:ElementName>{{.Memory}} MB of memory</rasd:ElementName>
        <rasd:InstanceID>2</rasd:InstanceID>
        <rasd:ResourceType>4</rasd:ResourceType>
        <rasd:VirtualQuantity>{{.Memory}}</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:Address>0</rasd:Address>
        <rasd:Caption>sataController0</rasd:Caption>
        <rasd:Description>SATA Controller</rasd:Description>
        <rasd:ElementName>sataController0</rasd:ElementName>
        <rasd:InstanceID>3</rasd:InstanceID>
        <rasd:ResourceSubType>AHCI</rasd:ResourceSubType>
        <rasd:ResourceType>20</rasd:ResourceType>
      </Item>
      <Item>
        <rasd:AddressOnParent>0</rasd:AddressOnParent>
        <rasd:Caption>disk1</rasd:Caption>
        <rasd:Description>Disk Image</rasd:Description>
        <rasd:ElementName>disk1</rasd:ElementName>
        <rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource>
        <rasd:InstanceID>4</rasd:InstanceID>
        <rasd:Parent>3</rasd:Parent>
        <rasd:ResourceType>17</rasd:ResourceType>
      </Item>
      <Item>
        <rasd:Address>{{x .MAC}}</rasd:Address>
        <rasd:AutomaticAllocation>true</rasd:AutomaticAllocation>
        <rasd:Caption>Ethernet adapter on NAT</rasd:Caption>
        <rasd:Connection>NAT</rasd:Connection>
        <rasd:ElementName>Ethernet adapter on NAT</rasd:ElementName>
        <rasd:InstanceID>5</rasd:InstanceID>
        <rasd:ResourceSubType>E1000</rasd:ResourceSubType>
        <rasd:ResourceType>10</rasd:ResourceType>
      </Item>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
`))
