import { configure, failpointOf, runProgram } from '@holdfast/runtime'
import packageJson from '../package.json' with { type: 'json' }
import { edgecoreSchema } from './config.ts'

await runProgram({ name: 'edgecore' }, async program => {
  const config = await configure({
    name: 'edgecore',
    summary: 'the node side of Holdfast: takes in device data, keeps it through any outage, and sends it to the cloud',
    version: packageJson.version,
    schema: edgecoreSchema
  }, program.args, text => program.print(text))
  if (config === undefined) return
  const { runEdgecore } = await import('./edgecore.ts')
  await runEdgecore(config, {
    log: program.openLog(config.log.level),
    version: packageJson.version,
    failpoint: failpointOf(program.environment)
  }, program.shutdown)
})
