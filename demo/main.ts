// `npm run demo`: what Holdfast promises, shown with real processes in about a minute. Ends with 0 only if it held.
import { after } from './chapters/after.ts'
import { catchUp } from './chapters/catch-up.ts'
import { cut } from './chapters/cut.ts'
import { desired } from './chapters/desired.ts'
import { killEdge } from './chapters/kill-edge.ts'
import { objects } from './chapters/objects.ts'
import { start } from './chapters/start.ts'
import { steady } from './chapters/steady.ts'
import { twins } from './chapters/twins.ts'
import type { Chapter } from './chapter.ts'
import { Display } from './display.ts'
import { report } from './report.ts'
import { Stage } from './stage.ts'

const chapters: readonly Chapter[] = [start, steady, desired, cut, killEdge, catchUp, objects, twins, after]

const withinMs = 120_000

const display = new Display({
  terminal: process.stdout.isTTY, columns: process.stdout.columns || 80, write: text => void process.stdout.write(text)
})
const stop = new AbortController()
process.exitCode = 1
let toldToStop = false
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    toldToStop = true
    stop.abort(new Error(`stopped by ${signal}`))
  })
}
process.on('uncaughtException', (error: unknown) => stop.abort(error))
process.stdout.on('error', () => stop.abort(new Error('nobody reads the output any more')))
const deadline = setTimeout(() => stop.abort(new Error(`not done within ${withinMs / 1000} s`)), withinMs)

const startedMs = performance.now()
const stage = new Stage(display, stop.signal)
let chapter = chapters[0]!
try {
  display.print('Holdfast: what a device was told is stored reaches the cloud, once, in order, through every fault.\n')
  for (chapter of chapters) {
    stop.signal.throwIfAborted()
    display.chapter(chapter.title, chapter.proves)
    await chapter.run(stage)
  }
  display.chapter('The accounts',
    'The reader, a process of its own, has every record from the cloud; publishers say what they were told.')
  const { text, problems } = report(await stage.finish(), stage.findings)
  display.print(`\n${text}\n`)
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(0)
  if (problems.length === 0) {
    display.print(`0 lost, 0 twice, 0 out of order, after ${seconds} s.\n`)
    process.exitCode = 0
  } else {
    const list = problems.map(problem => `  ${problem}\n`).join('')
    display.print(`The ends of the logs:\n${stage.logs()}\nNOT as promised, after ${seconds} s:\n${list}`)
  }
} catch (error) {
  const why = stop.signal.aborted ? stop.signal.reason as unknown : error
  if (toldToStop) display.print('\nstopped; nothing is proved\n')
  else {
    display.print(`\nThe ends of the logs:\n${stage.logs()}\nThe demo failed in "${chapter.title}", while: ${stage.currentStep}.\n` +
      `  ${why instanceof Error ? why.message : String(why)}\n`)
  }
} finally {
  clearTimeout(deadline)
  await stage[Symbol.asyncDispose]()
}
