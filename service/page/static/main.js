/** Where the page begins: every part puts itself on the page, then the models are asked for. */

import { showAnalyse } from "./analyse.js";
import { askForKeys } from "./key.js";
import { showLive } from "./live.js";
import { showModel } from "./model.js";
import { loadModels, offerModels } from "./models.js";
import { showTabs } from "./tabs.js";
import { offerTheme } from "./theme.js";

offerTheme();
askForKeys();
showAnalyse();
showModel();
showLive();
offerModels();
showTabs();
loadModels();
