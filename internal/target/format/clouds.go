package format

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"herdbook/internal/artefact"
	"herdbook/internal/inspection"
)

// azureCommands upload a VHD and make an image of it: for machines of the second
// generation, which start by UEFI, if the system has what that starts.
// https://learn.microsoft.com/azure/virtual-machines/linux/create-upload-generic
func azureCommands(name string, s *inspection.System) []string {
	generation := "V1"
	if slices.ContainsFunc(s.Mounts, func(m inspection.Mount) bool { return m.Type == "vfat" }) {
		generation = "V2"
	}
	return []string{
		fmt.Sprintf("az storage blob upload --account-name $ACCOUNT --container-name $CONTAINER --type page --file %s.vhd --name %s.vhd", name, name),
		fmt.Sprintf("az image create --resource-group $GROUP --name %s --os-type Linux --hyper-v-generation %s --source https://$ACCOUNT.blob.core.windows.net/$CONTAINER/%s.vhd", name, generation, name),
	}
}

// notOfGoogle is what Google's cloud takes in no name.
var notOfGoogle = regexp.MustCompile(`[^a-z0-9-]+`)

// googleCommands upload an archive and make an image of it.
func googleCommands(name string) []string {
	// A name begins with a letter there, and has no dots.
	called := strings.Trim(notOfGoogle.ReplaceAllString(name, "-"), "-")
	if called[0] < 'a' {
		called = "image-" + called
	}
	return []string{
		fmt.Sprintf("gcloud storage cp %s.gce.tar.gz gs://$BUCKET/", name),
		fmt.Sprintf("gcloud compute images create %s --source-uri=gs://$BUCKET/%s.gce.tar.gz --guest-os-features=UEFI_COMPATIBLE,VIRTIO_SCSI_MULTIQUEUE", called, name),
	}
}

// amazonScript is a shell script that uploads a raw disk and registers it.
// https://docs.aws.amazon.com/vm-import/latest/userguide/vmimport-import-snapshot.html
func amazonScript(image *artefact.Image) string {
	architecture := "x86_64"
	if image.System.Architecture == "arm64" {
		architecture = "arm64"
	}
	return fmt.Sprintf(`#!/bin/sh
# Uploads %[1]s.ami.raw to the bucket $BUCKET, makes a snapshot of it and registers that as
# an image. It needs the aws program, and the role vmimport.
set -eu
cd "$(dirname "$0")"
: "${BUCKET:?say which bucket the disk is uploaded to}"
aws s3 cp %[1]s.ami.raw "s3://$BUCKET/%[2]s.raw"
task=$(aws ec2 import-snapshot --query ImportTaskId --output text --description %[1]s \
	--disk-container "Format=RAW,UserBucket={S3Bucket=$BUCKET,S3Key=%[2]s.raw}")
aws ec2 wait snapshot-imported --import-task-ids "$task"
snapshot=$(aws ec2 describe-import-snapshot-tasks --import-task-ids "$task" \
	--query 'ImportSnapshotTasks[0].SnapshotTaskDetail.SnapshotId' --output text)
aws ec2 register-image --name "${NAME:-%[1]s-%[3]s}" --architecture %[4]s --virtualization-type hvm --ena-support \
	--boot-mode uefi-preferred --root-device-name /dev/xvda \
	--block-device-mappings "DeviceName=/dev/xvda,Ebs={SnapshotId=$snapshot,VolumeType=gp3,DeleteOnTermination=true}"
aws s3 rm "s3://$BUCKET/%[2]s.raw"
`, image.Name, image.Name+"-"+image.Layer.Short(), image.Layer.Short(), architecture)
}
