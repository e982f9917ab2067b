// SPDX-License-Identifier: Apache-2.0

// Package config is the configuration file of a cluster, format
// rk.io/v1alpha1: [Load] decodes it strictly and reports every error at once,
// each with its position and field path, [Default] fills in what was left out,
// [Validate] checks a configuration that flags were put over.
// docs/config.md is its reference; a test holds the two together.
//
// It must never import os, net/http, an engine, or any package of this
// module: it works on bytes and values.
package config
