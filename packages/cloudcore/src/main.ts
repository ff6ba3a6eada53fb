import { hostname } from 'node:os'
import { configure, failpointOf, runProgram } from '@holdfast/runtime'
import packageJson from '../package.json' with { type: 'json' }
import { cloudcoreSchema } from './config.ts'

await runProgram({ name: 'cloudcore' }, async program => {
  const config = await configure({
    name: 'cloudcore',
    summary: 'the cloud side of Holdfast: one tunnel per node, the cloud log and its readers',
    version: packageJson.version,
    schema: cloudcoreSchema
  }, program.args, text => program.print(text))
  if (config === undefined) return
  const { runCloudcore } = await import('./cloudcore.ts')
  await runCloudcore(config, {
    log: program.openLog(config.log.level),
    version: packageJson.version,
    hostname: hostname(),
    failpoint: failpointOf(program.environment)
  }, program.shutdown)
})
