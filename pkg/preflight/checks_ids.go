// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/rootless-kubernetes/rk/pkg/problem"
)

// neededIDs is how many subordinate ids a node needs: the ids of a whole system.
const neededIDs = 65536

var idChecks = []check{
	{
		problem: problem.NoSubIDs, name: "subordinate ids", level: Required,
		why:  "Users and groups inside of a node are mapped to subordinate ids of the user, so that root in a node is nobody on the host. A node needs 65536 of each.",
		look: lookSubIDs,
	},
	{
		problem: problem.NoIDMapTools, name: "newuidmap, newgidmap", level: Required,
		why: "Only newuidmap and newgidmap may map subordinate ids into a user namespace for an ordinary user. They need the setuid bit or file capabilities for that, which some package builds and copied file systems lose.",
		look: func(f *Facts) verdict {
			var bad []string
			var steps []Step
			for _, t := range []struct {
				name string
				p    Fact[Program]
			}{{"newuidmap", f.NewUIDMap}, {"newgidmap", f.NewGIDMap}} {
				switch p := t.p.Value; {
				case !t.p.Known:
					return dunno(t.p.Why)
				case p.Path == "":
					return fail(t.name+" is not installed", f.OS.install(idMapPackages))
				case !p.Caps && (!p.Setuid || !p.Rooted):
					bad = append(bad, p.Path)
					steps = append(steps, asRoot("chown root:root "+p.Path), asRoot("chmod u+s "+p.Path))
				}
			}
			if len(bad) > 0 {
				return fail(strings.Join(bad, " and ")+": neither setuid root nor file capabilities", Fix{Steps: steps})
			}
			return pass(f.NewUIDMap.Value.Path + ", " + f.NewGIDMap.Value.Path)
		},
	},
	{
		problem: problem.UserNSDisabled, name: "user namespaces", level: Required,
		why: "Everything rootless happens in a user namespace that an ordinary user made. Some distributions and hardening guides switch them off.",
		look: func(f *Facts) verdict {
			limit, clone := f.sysctl("user.max_user_namespaces"), f.sysctl("kernel.unprivileged_userns_clone")
			switch {
			case limit.Known && limit.Value == 0:
				return fail("user.max_user_namespaces is 0", sysctl("userns", "user.max_user_namespaces = 28633"))
			case clone.Known && clone.Value == 0:
				return fail("kernel.unprivileged_userns_clone is 0", sysctl("userns-clone", "kernel.unprivileged_userns_clone = 1"))
			case f.UserNS.Known && f.UserNS.Value == "":
				return pass("rk could make one")
			case f.Engine.Known && f.Engine.Value.Rootless:
				return pass("the engine runs in one")
			case f.restricted():
				return dunno("AppArmor decides for each program; see RK707")
			case f.UserNS.Known:
				return fail("making one: "+f.UserNS.Value, note("The kernel's settings allow user namespaces, but something else refuses them: a seccomp profile of the container that this host runs in, or a security module."))
			}
			return dunno(f.UserNS.Why)
		},
	},
	{
		problem: problem.UserNSAppArmor, name: "AppArmor and user namespaces", level: Required,
		why: "Ubuntu 23.10 and later let a program use user namespaces only if an AppArmor profile says so. Packages of the engine bring one; an engine that was installed by hand does not.",
		look: func(f *Facts) verdict {
			v, there := f.Sysctls["kernel.apparmor_restrict_unprivileged_userns"]
			switch {
			case there && !v.Known:
				return dunno(v.Why)
			case !f.restricted():
				return pass("not restricted")
			case f.Engine.Known && f.Engine.Value.Rootless:
				return pass("restricted, but the engine has its profile")
			case f.EngineFailure == nil:
				return dunno("restricted; the engine was not asked")
			}
			program := "/usr/local/bin/rootlesskit"
			if p := f.Programs["podman"]; p.Known && p.Value != "" {
				program = p.Value
			}
			profile := strings.ReplaceAll(strings.TrimPrefix(program, "/"), "/", ".")
			return fail("restricted, and the engine does not run", Fix{Steps: []Step{
				write("/etc/apparmor.d/"+profile, "abi <abi/4.0>,", "include <tunables/global>", "", program+" flags=(unconfined) {", "  userns,", "  include if exists <local/"+profile+">", "}"),
				asRoot("systemctl restart apparmor.service"),
			}, After: "If the engine's program lies elsewhere, use its path."})
		},
	},
}

// restricted says that AppArmor restricts user namespaces (Ubuntu's sysctl).
func (f *Facts) restricted() bool {
	v := f.sysctl("kernel.apparmor_restrict_unprivileged_userns")
	return v.Known && v.Value != 0
}

func lookSubIDs(f *Facts) verdict {
	uids, gids, e := f.SubUIDs.Value, f.SubGIDs.Value, f.Engine.Value
	has := fmt.Sprintf("the engine's user namespace has %d user ids and %d group ids", e.UIDs, e.GIDs)
	enough := e.UIDs > neededIDs && e.GIDs > neededIDs
	switch filesKnown := f.SubUIDs.Known && f.SubGIDs.Known; {
	case !filesKnown && e.UIDs == 0:
		return dunno(cmp.Or(f.SubUIDs.Why, f.SubGIDs.Why))
	case !filesKnown && !enough:
		return fail(has, note("Ask the administrator of the directory service for %d subordinate user and group ids.", neededIDs))
	case filesKnown && (uids.Count < neededIDs || gids.Count < neededIDs):
		return fail(fmt.Sprintf("%s has %d subordinate user ids and %d group ids", f.User.Name, uids.Count, gids.Count), f.moreIDs())
	case filesKnown && e.UIDs > 0 && !enough:
		return fail("/etc/subuid and /etc/subgid give enough, but "+has, f.migrate())
	case filesKnown:
		return pass(fmt.Sprintf("%d user ids, %d group ids", uids.Count, gids.Count))
	}
	return pass(has)
}

// moreIDs gives the user a range that nobody has yet.
func (f *Facts) moreIDs() Fix {
	uids, gids := f.SubUIDs.Value, f.SubGIDs.Value
	first := freeIDs(slices.Concat(uids.Taken, gids.Taken))
	span := fmt.Sprintf("%d-%d", first, first+neededIDs-1)
	fix := Fix{}
	if uids.Count < neededIDs {
		fix.Steps = append(fix.Steps, asRoot("usermod --add-subuids "+span+" "+f.User.Name))
	}
	if gids.Count < neededIDs {
		fix.Steps = append(fix.Steps, asRoot("usermod --add-subgids "+span+" "+f.User.Name))
	}
	return fix.join(f.migrate())
}

// migrate has the engine take note of changed subordinate ids.
func (f *Facts) migrate() Fix {
	if f.docker() {
		return Fix{Steps: []Step{asUser("systemctl --user restart docker")}}
	}
	return Fix{Steps: []Step{asUser("podman system migrate")}}
}

// freeIDs returns the first of the next free ids, where useradd looks too
// (SUB_UID_MIN of login.defs).
func freeIDs(taken []Range) int64 {
	first := int64(100000)
	for changed := true; changed; {
		changed = false
		for _, r := range taken {
			if r.First < first+neededIDs && first < r.First+r.Count {
				first, changed = r.First+r.Count, true
			}
		}
	}
	return first
}
