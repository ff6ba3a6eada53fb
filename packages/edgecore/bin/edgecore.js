#!/usr/bin/env node
import { launch } from '../../runtime/bin/launch.js'

/**
 * V8 flags that the program is measured and shipped with. A larger young generation trades memory for speed; the bound on
 * the old one, far above what the default limits need, keeps garbage from piling up under load. NODE_OPTIONS may set others.
 */
const flags = ['--max-semi-space-size=16', '--max-old-space-size=256']

await launch(new URL('../src/main.ts', import.meta.url), flags)
