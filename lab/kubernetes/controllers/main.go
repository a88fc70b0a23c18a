// Copyright: (c) 2026, ModelFleet developers
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Command controllers is the controllers of Kubernetes, or with "scheduler" as its first argument the scheduler. Most of either is in both, so one
// program is half as large as two.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "scheduler" {
		os.Args = append(os.Args[:1], os.Args[2:]...)
		os.Exit(cli.Run(scheduler.NewSchedulerCommand()))
	}
	os.Exit(cli.Run(controllers.NewControllerManagerCommand()))
}
