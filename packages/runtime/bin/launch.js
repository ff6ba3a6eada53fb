import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { constants } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

// Plain JavaScript: this file must run, or say what is missing, on any Node from 16 on.

const majorMin = 24

/**
 * Unless set otherwise: glibc keeps freed memory for reuse in as many arenas as threads have met in it. With two of them
 * edgecore holds 9 MB less at rest, and 5 to 17 MB less under load (bench rows d and l); other C libraries do not read it.
 */
const environment = { MALLOC_ARENA_MAX: '2', ...process.env }

/**
 * Runs a program's main.ts on Node 24 with the V8 flags given, but for those that NODE_OPTIONS sets otherwise.
 *
 * Heap flags are read when V8 starts (setting them later has no effect), so a process without them replaces itself:
 * same process id, nothing left behind. A Node too old to do that starts the Node 24 of the project as a child, hands
 * signals on, and takes over its exit code; the child ends when this process does.
 *
 * @param {URL} main
 * @param {readonly string[]} defaults
 */
export async function launch(main, defaults) {
  const chosen = process.env.NODE_OPTIONS ?? ''
  const flags = defaults.filter(flag => !chosen.includes(flag.slice(0, flag.indexOf('='))))
  const path = fileURLToPath(main)
  const args = process.argv.slice(2)
  const suits = major(process.versions.node) >= majorMin
  if (suits && flags.every(flag => process.execArgv.includes(flag))) {
    endWithParent()
    process.argv[1] = path
    await import(pathToFileURL(path).href)
    return
  }
  const node = suits ? process.execPath : findNode(dirname(path))
  if (node === undefined) {
    process.stderr.write(`Node.js ${majorMin} or newer is needed and this is ${process.versions.node}: `
      + 'install it, or run `npm ci` in the project, which brings one.\n')
    process.exitCode = 1
    return
  }
  const command = [...flags, process.argv[1], ...args]
  if (suits && typeof process.execve === 'function') process.execve(node, [node, ...command], environment)
  runChild(node, command)
}

/** @param {string} version */
const major = version => Number(version.split('.')[0])

/** The `node` package of a node_modules folder here or above. @param {string} folder */
function findNode(folder) {
  for (let at = folder; ; at = dirname(at)) {
    const candidate = join(at, 'node_modules', 'node', 'bin', process.platform === 'win32' ? 'node.exe' : 'node')
    if (existsSync(candidate)) return candidate
    if (at === dirname(at)) return undefined
  }
}

/** In a group of its own, so that Ctrl-C reaches it once, through here. @param {string} node @param {string[]} command */
function runChild(node, command) {
  const child = spawn(node, command, { stdio: ['inherit', 'inherit', 'inherit', 'ipc'], detached: true, env: environment })
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR2']) process.on(signal, () => child.kill(signal))
  child.on('error', error => {
    process.stderr.write(`${node} cannot be started: ${error.message}\n`)
    process.exit(1)
  })
  child.on('exit', (code, signal) => process.exit(signal === null ? code : 128 + constants.signals[signal]))
}

/** A child of a launcher ends at once when the launcher was killed, as it would have been itself. */
function endWithParent() {
  if (process.channel === undefined || process.channel === null) return
  process.channel.unref()
  process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'))
}
