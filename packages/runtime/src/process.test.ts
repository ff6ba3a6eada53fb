import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { exitCodes } from './process.ts'

const runtime = JSON.stringify(join(import.meta.dirname, 'index.ts'))
const launcher = JSON.stringify(join(import.meta.dirname, '../bin/launch.js'))

interface Run {
  readonly child: ChildProcess
  readonly output: () => string
  /** Resolves when the output has `text`. */
  readonly says: (text: string) => Promise<void>
  readonly code: Promise<number | null>
}

async function write(name: string, source: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-process-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  const path = join(folder, name)
  await writeFile(path, source)
  return path
}

function start(path: string, args: readonly string[] = []): Run {
  const child = spawn(process.execPath, [path, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  onTestFinished(() => { child.kill('SIGKILL') })
  let text = ''
  let heard = (): void => {}
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      heard()
    })
  }
  return {
    child,
    output: () => text,
    says: wanted => new Promise<void>((resolve, reject) => {
      heard = () => { if (text.includes(wanted)) resolve() }
      heard()
      child.on('close', () => reject(new Error(`ended without ${wanted}: ${text}`)))
    }),
    code: once(child, 'close').then(([code]) => code as number | null)
  }
}

async function run(main: string, options = ''): Promise<Run> {
  return start(await write('main.mjs', `
    import { HoldfastError, runProgram } from ${runtime}
    setInterval(() => {}, 1000)
    await runProgram({ name: 'test', ${options} }, async program => { ${main} })`))
}

const untilShutdown = `
  program.print('ready')
  await new Promise(resolve => program.shutdown.addEventListener('abort', resolve))`

test('a program that returns ends with ok, even where something is left open', async () => {
  const { code, output } = await run('program.print(`args ${program.args.length}`)')
  expect(await code).toBe(exitCodes.ok.code)
  expect(output()).toBe('args 0')
})

test('the first signal drains', async () => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const { child, says, code, output } = await run(`${untilShutdown}; program.print('drained')`)
    await says('ready')
    child.kill(signal)
    expect(await code).toBe(exitCodes.ok.code)
    expect(output()).toContain('drained')
  }
})

test('the second signal ends the process at once', async () => {
  const { child, says, code } = await run(`${untilShutdown}; program.print('draining'); await new Promise(() => {})`)
  await says('ready')
  child.kill('SIGTERM')
  await says('draining')
  child.kill('SIGTERM')
  expect(await code).toBe(exitCodes.aborted.code)
})

test('a drain that takes too long is ended', async () => {
  const { child, says, code, output } = await run(`${untilShutdown}; await new Promise(() => {})`, 'stopWithinMs: 100')
  await says('ready')
  child.kill('SIGTERM')
  expect(await code).toBe(exitCodes.stopLate.code)
  expect(output()).toContain('not stopped in time')
})

test('faults are logged once, as JSON', async () => {
  for (const fault of [
    'throw new Error("broken")',
    'setImmediate(() => { throw new Error("broken") }); await new Promise(() => {})',
    'void Promise.reject(new Error("broken")); await new Promise(() => {})'
  ]) {
    const { code, output } = await run(fault)
    expect(await code).toBe(exitCodes.fault.code)
    const lines = output().trim().split('\n').map(line => JSON.parse(line) as Record<string, unknown>)
    expect(lines).toEqual([expect.objectContaining({ level: 'error', error: 'broken', program: 'test' })])
  }
})

test('an operating error is a message with its code, without a stack', async () => {
  const { code, output } = await run('throw new HoldfastError("LISTEN_FAILED", "x: cannot listen", { cause: new Error("taken") })')
  expect(await code).toBe(exitCodes.fault.code)
  expect(JSON.parse(output())).toEqual({
    time: expect.any(String) as string, level: 'error', message: 'stopped by a fault', program: 'test',
    error: 'LISTEN_FAILED: x: cannot listen (taken)'
  })
})

test('a problem of the configuration is printed as it is', async () => {
  const { code, output } = await run('throw new HoldfastError("CONFIG_INVALID", "a: b\\nc: d")')
  expect(await code).toBe(exitCodes.usage.code)
  expect(output()).toBe('a: b\nc: d\n')
})

const launched = `import { launch } from ${launcher}
  await launch(new URL('./main.ts', import.meta.url), ['--max-semi-space-size=3'])`

async function writeLaunched(main: string): Promise<string> {
  const path = await write('launched.mjs', launched)
  await writeFile(join(path, '../main.ts'), main)
  return path
}

test('a launcher becomes its program, with its flags, environment, arguments, signals and exit code', async () => {
  const { child, code, says, output } = start(await writeLaunched(`
    const flag: string = process.execArgv.join()
    process.on('SIGTERM', () => process.exit(7))
    setInterval(() => {}, 1000)
    console.log(process.pid, flag, process.env['MALLOC_ARENA_MAX'], process.argv.slice(2).join(), 'ready')`), ['a', '--b'])
  await says('ready')
  expect(output()).toBe(`${child.pid} --max-semi-space-size=3 2 a,--b ready\n`)
  child.kill('SIGTERM')
  expect(await code).toBe(7)
})

test('where a process cannot be replaced, a child takes its signals, gives its exit code, and ends with it', async () => {
  const path = await writeLaunched(`
    process.on('SIGTERM', () => { console.log('told'); process.exit(7) })
    setInterval(() => {}, 1000)
    console.log(process.pid, 'ready')`)
  await writeFile(join(path, '../old.mjs'), 'process.execve = undefined; await import("./launched.mjs")')
  const old = join(path, '../old.mjs')

  const told = start(old)
  await told.says('ready')
  expect(Number.parseInt(told.output())).not.toBe(told.child.pid)
  told.child.kill('SIGTERM')
  expect(await told.code).toBe(7)
  expect(told.output()).toContain('told')

  const killed = start(old)
  await killed.says('ready')
  killed.child.kill('SIGKILL')
  // `close` waits for the pipes, which the child holds until its end.
  expect(await killed.code).toBe(null)
})
